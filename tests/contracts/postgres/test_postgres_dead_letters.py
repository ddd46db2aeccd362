"""Dead letters in the database: tasks that they end, the archive of those thrown away, and turns."""

import asyncio
import base64
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from schemas.files import FailedFile
from tests.time_limits import SOON

Make = Callable[..., dict[str, Any]]


def letter(job: dict[str, Any], code: str = "worker_killed", error: str = "it killed its worker") -> dict[str, Any]:
    return {"task_id": job["task_id"], "code": code, "error": error}


async def bury(db: Any, *letters: dict[str, Any]) -> list[str]:
    changed: list[str] = (await db.call("outlast_bury", p_letters=list(letters)))["changed"]
    return changed


async def task(db: Any, job: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = await db.row("select * from public.outlast_tasks where task_id = $1", job["task_id"])
    return row


async def begin(db: Any, job: dict[str, Any], seconds: int = 30) -> Any:
    lease = uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w", p_lease_seconds=seconds)
    return lease


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
async def test_a_task_whose_message_died_has_failed(db: Any, make_job: Make, status: str) -> None:
    generation = await db.generation()
    job = make_job(generation, ["a", "b"])
    await begin(db, job, seconds=-1)
    await db.run("update public.outlast_tasks set status = $1", status)
    assert await bury(db, letter(job)) == [job["task_id"]]
    buried = await task(db, job)
    assert (buried["status"], buried["lease"], buried["error_code"]) == ("failed", None, "worker_killed")
    assert buried["error"] == "it killed its worker"
    assert buried["finished_at"] is not None
    assert [(FailedFile.model_validate(one).source_key, one["position"]) for one in buried["failed"]] == [
        ("a", 0),
        ("b", 1),
    ]
    assert buried["result"]["failed_files"] == buried["failed"]
    assert (buried["result"]["successful_files"], buried["result"]["total_files"]) == (0, 2)
    assert await db.media(generation) == ([], "failed")
    assert await bury(db, letter(job)) == []
    assert (await db.call("outlast_enqueue", p_job=job))["status"] == "queued"


async def test_what_is_stored_makes_it_partial_and_failures_are_told_once(
    db: Any, make_job: Make, make_file: Make, make_failure: Callable[[str], Any], path_of: Any
) -> None:
    generation = await db.generation()
    job = make_job(generation, ["a", "b", "c"])
    await db.call(
        "outlast_finish",
        p_task_id=job["task_id"],
        p_lease=await begin(db, job),
        p_status="retrying",
        p_files=[make_file(generation, "b", job)],
        p_failed=[make_failure("a")],
    )
    assert await bury(db, letter(job), letter(job, "second", "told again")) == [job["task_id"]]
    buried = await task(db, job)
    assert (buried["status"], buried["error_code"]) == ("partial", "worker_killed")
    assert [(one["source_key"], one["code"]) for one in buried["failed"]] == [
        ("a", "source_gone"),
        ("c", "worker_killed"),
    ]
    assert len(buried["result"]["processed_file_ids"]) == 1
    assert await db.media(generation) == ([path_of("b")], "partial")


@pytest.mark.parametrize("end", ["completed", "partial", "failed", "cancelled", "alive", "unknown"])
async def test_what_ended_lives_or_is_unknown_stays_as_it_is(db: Any, make_job: Make, end: str) -> None:
    job = make_job(await db.generation(), ["a", "b"])
    if end == "cancelled":
        await db.call("outlast_cancel", p_task_id=job["task_id"])
    elif end == "alive":
        await begin(db, job)
    elif end != "unknown":
        stored = {"completed": ["a", "b"], "partial": ["a"], "failed": []}[end]
        assert await db.attempt(job, stored, [key for key in ("a", "b") if key not in stored]) == end
    tables = ("outlast_tasks", "generations", "outlast_files")
    before = [await db.contents(table) for table in tables]
    assert await bury(db, letter(job), {"task_id": None}, {"task_id": "none at all"}, {}) == []
    assert [await db.contents(table) for table in tables] == before


async def test_burials_and_finishes_at_once_neither_wait_for_each_other_for_ever_nor_lose_a_task(
    db: Any, make_job: Make
) -> None:
    """Twelve tasks of three generations, buried in two orders by four, while half of them begin and finish again."""
    generations = [await db.generation() for _ in range(3)]
    keys = [f"k{number}" for number in range(4)]
    jobs = [
        make_job(generation, [key], first=place, all_keys=keys)
        for generation in generations
        for place, key in enumerate(keys)
    ]
    for job in jobs:
        await begin(db, job, seconds=-1)
    letters = [letter(job) for job in jobs]
    async with asyncio.timeout(SOON):
        *buried, _ = await asyncio.gather(
            *(bury(db, *order) for order in (letters, letters[::-1]) * 2),
            asyncio.gather(*(db.attempt(job, stored=job["source_keys"]) for job in jobs[::2])),
        )
    times = Counter(one for some in buried for one in some)
    for number, job in enumerate(jobs):
        # One that began again may be buried before, or not at all; the others are, once.
        assert times[job["task_id"]] <= 1 if number % 2 == 0 else times[job["task_id"]] == 1
        assert (await task(db, job))["status"] == ("completed" if number % 2 == 0 else "failed")
    assert [(await db.media(generation))[1] for generation in generations] == ["partial"] * 3


async def turn(db: Any, worker: str = "w1", every: int = 60) -> bool:
    mine: bool = (await db.call("outlast_turn", p_name="sweep", p_every_seconds=every, p_worker=worker))["mine"]
    return mine


async def test_one_of_twenty_has_the_turn_each_time(db: Any) -> None:
    for _ in range(3):
        turns = await asyncio.gather(*(turn(db, f"w{number}") for number in range(20)))
        assert Counter(turns) == {True: 1, False: 19}
        winner = await db.value("select worker from public.outlast_turns")
        assert turns[int(winner[1:])]
        await db.run("update public.outlast_turns set next_at = now() - interval '1 second'")


async def test_turns_that_nobody_took_are_caught_up_with_one(db: Any) -> None:
    assert await turn(db)
    assert not await turn(db)
    await db.run("update public.outlast_turns set next_at = now() - interval '1 hour'")
    assert await turn(db)
    assert not await turn(db, "w2")
    waiting = await db.row("select worker, next_at - now() as ahead, now() - ran_at as ago from public.outlast_turns")
    assert waiting["worker"] == "w1"
    assert 55 < waiting["ahead"].total_seconds() <= 60
    assert waiting["ago"].total_seconds() < 5
    other = await db.call("outlast_turn", p_name="optimize", p_every_seconds=60, p_worker="w1")
    assert other == {"mine": True}
    with pytest.raises(asyncpg.InvalidParameterValueError, match="p_every_seconds"):
        await turn(db, every=0)


def discarded(**item: Any) -> dict[str, Any]:
    body = base64.b64encode(b'\x00 no "text"').decode()
    return {"id": str(uuid4()), "item": item, "message_type": "outlast.job.v1", "body": body}


async def archive(db: Any, letters: list[dict[str, Any]], keep: int = 3600, by: str | None = "ops") -> int:
    answer = await db.call("outlast_archive", p_letters=letters, p_keep_seconds=keep, p_by=by)
    return int(answer["archived"])


async def test_what_is_thrown_away_is_kept_whole_and_once(db: Any) -> None:
    item = {"id": "l-1", "task_id": str(uuid4()), "generation_id": "g", "user_id": "u", "code": "source_gone", "n": 1}
    one = discarded(**item)
    assert await archive(db, [one, one]) == 1
    kept = await db.row("select * from public.outlast_dead_archive")
    assert (kept.pop("gone_after") - kept.pop("discarded_at")).total_seconds() == 3600
    assert str(kept.pop("id")) == one["id"]
    assert str(kept.pop("task_id")) == item["task_id"]
    assert base64.b64decode(kept.pop("body")) == b'\x00 no "text"'
    assert kept == {
        "letter_id": "l-1",
        "generation_id": "g",
        "user_id": "u",
        "code": "source_gone",
        "item": item,
        "message_type": "outlast.job.v1",
        "discarded_by": "ops",
    }
    before = await db.contents("outlast_dead_archive")
    again = one | {"body": "another"}
    assert await archive(db, [again], by="else") == 1
    assert await db.contents("outlast_dead_archive") == before
    assert await archive(db, [again, discarded()]) == 2
    assert await archive(db, []) == 0


@pytest.mark.parametrize("task_id", [None, "no uuid", 7, {"a": 1}])
async def test_an_undecodable_letter_is_kept_without_a_task(db: Any, task_id: Any) -> None:
    one = discarded(id="l", task_id=task_id) | {"message_type": None}
    assert await archive(db, [one]) == 1
    kept = await db.row("select task_id, item from public.outlast_dead_archive")
    assert kept == {"task_id": None, "item": one["item"]}


async def test_what_was_kept_long_enough_goes(db: Any) -> None:
    old, new = discarded(id="old"), discarded(id="new")
    assert await archive(db, [old], keep=0) == 1
    assert await archive(db, [new]) == 1
    assert await db.value("select array_agg(letter_id) from public.outlast_dead_archive") == ["new"]


async def test_many_archive_the_same_at_once(db: Any) -> None:
    letters = [discarded(id=str(number)) for number in range(30)]
    await archive(db, [discarded() for _ in range(30)], keep=0)
    assert await asyncio.gather(*(archive(db, letters[:: 1 - 2 * (n % 2)]) for n in range(10))) == [30] * 10
    assert await db.value("select count(*) from public.outlast_dead_archive") == 30
