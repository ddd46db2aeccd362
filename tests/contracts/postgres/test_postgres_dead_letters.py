"""Dead letters in the database: the tasks that they end, the archive of discarded ones; and turns of periodic jobs."""

import asyncio
import base64
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from schemas.files import FailedFile
from tests.time_limits import WAIT_SECONDS

Make = Callable[..., dict[str, Any]]


def dead_letter(
    job: dict[str, Any], code: str = "worker_killed", error: str = "the worker was killed"
) -> dict[str, Any]:
    return {"task_id": job["task_id"], "code": code, "error": error}


async def record_dead_letters(db: Any, *messages: dict[str, Any]) -> list[str]:
    changed: list[str] = (await db.call("outlast_bury", p_letters=list(messages)))["changed"]
    return changed


async def task(db: Any, job: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = await db.row("select * from public.outlast_tasks where task_id = $1", job["task_id"])
    return row


async def begin(db: Any, job: dict[str, Any], seconds: int = 30) -> Any:
    lease = uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w", p_lease_seconds=seconds)
    return lease


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
async def test_the_task_of_a_dead_letter_is_failed(db: Any, make_job: Make, status: str) -> None:
    generation = await db.generation()
    job = make_job(generation, ["a", "b"])
    await begin(db, job, seconds=-1)
    await db.run("update public.outlast_tasks set status = $1", status)
    assert await record_dead_letters(db, dead_letter(job)) == [job["task_id"]]
    recorded = await task(db, job)
    assert (recorded["status"], recorded["lease"], recorded["error_code"]) == ("failed", None, "worker_killed")
    assert recorded["error"] == "the worker was killed"
    assert recorded["finished_at"] is not None
    assert [(FailedFile.model_validate(file).source_key, file["position"]) for file in recorded["failed"]] == [
        ("a", 0),
        ("b", 1),
    ]
    assert recorded["result"]["failed_files"] == recorded["failed"]
    assert (recorded["result"]["successful_files"], recorded["result"]["total_files"]) == (0, 2)
    assert await db.media(generation) == ([], "failed")
    assert await record_dead_letters(db, dead_letter(job)) == []
    assert (await db.call("outlast_enqueue", p_job=job))["status"] == "queued"


async def test_with_stored_files_the_task_is_partial_and_each_failure_is_listed_once(
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
    assert await record_dead_letters(db, dead_letter(job), dead_letter(job, "second", "a second message")) == [
        job["task_id"]
    ]
    recorded = await task(db, job)
    assert (recorded["status"], recorded["error_code"]) == ("partial", "worker_killed")
    assert [(file["source_key"], file["code"]) for file in recorded["failed"]] == [
        ("a", "source_gone"),
        ("c", "worker_killed"),
    ]
    assert len(recorded["result"]["processed_file_ids"]) == 1
    assert await db.media(generation) == ([path_of("b")], "partial")


@pytest.mark.parametrize("end", ["completed", "partial", "failed", "cancelled", "running", "unknown"])
async def test_ended_running_and_unknown_tasks_are_not_changed(db: Any, make_job: Make, end: str) -> None:
    job = make_job(await db.generation(), ["a", "b"])
    if end == "cancelled":
        await db.call("outlast_cancel", p_task_id=job["task_id"])
    elif end == "running":
        await begin(db, job)
    elif end != "unknown":
        stored = {"completed": ["a", "b"], "partial": ["a"], "failed": []}[end]
        assert await db.attempt(job, stored, [key for key in ("a", "b") if key not in stored]) == end
    tables = ("outlast_tasks", "generations", "outlast_files")
    before = [await db.contents(table) for table in tables]
    assert await record_dead_letters(db, dead_letter(job), {"task_id": None}, {"task_id": "not a UUID"}, {}) == []
    assert [await db.contents(table) for table in tables] == before


async def test_concurrent_dead_letters_and_finishes_neither_deadlock_nor_lose_a_task(db: Any, make_job: Make) -> None:
    """Twelve tasks of three generations: four callers record them in two orders; half begin and finish again."""
    generations = [await db.generation() for _ in range(3)]
    keys = [f"k{number}" for number in range(4)]
    jobs = [
        make_job(generation, [key], first=position, all_keys=keys)
        for generation in generations
        for position, key in enumerate(keys)
    ]
    for job in jobs:
        await begin(db, job, seconds=-1)
    messages = [dead_letter(job) for job in jobs]
    async with asyncio.timeout(WAIT_SECONDS):
        *recorded, _ = await asyncio.gather(
            *(record_dead_letters(db, *ordered) for ordered in (messages, messages[::-1]) * 2),
            asyncio.gather(*(db.attempt(job, stored=job["source_keys"]) for job in jobs[::2])),
        )
    times = Counter(task_id for changed in recorded for task_id in changed)
    for number, job in enumerate(jobs):
        # A task that begins again is recorded once or never; the others exactly once.
        assert times[job["task_id"]] <= 1 if number % 2 == 0 else times[job["task_id"]] == 1
        assert (await task(db, job))["status"] == ("completed" if number % 2 == 0 else "failed")
    assert [(await db.media(generation))[1] for generation in generations] == ["partial"] * 3


async def turn(db: Any, worker: str = "w1", every: int = 60) -> bool:
    is_ours: bool = (await db.call("outlast_turn", p_name="sweep", p_every_seconds=every, p_worker=worker))["mine"]
    return is_ours


async def test_each_slot_is_given_to_one_of_twenty_workers(db: Any) -> None:
    for _ in range(3):
        turns = await asyncio.gather(*(turn(db, f"w{number}") for number in range(20)))
        assert Counter(turns) == {True: 1, False: 19}
        winner = await db.value("select worker from public.outlast_turns")
        assert turns[int(winner[1:])]
        await db.run("update public.outlast_turns set next_at = now() - interval '1 second'")


async def test_missed_slots_run_once(db: Any) -> None:
    assert await turn(db)
    assert not await turn(db)
    await db.run("update public.outlast_turns set next_at = now() - interval '1 hour'")
    assert await turn(db)
    assert not await turn(db, "w2")
    turn_row = await db.row(
        "select worker, next_at - ran_at as until_next, now() - ran_at as since_run from public.outlast_turns"
    )
    assert turn_row["worker"] == "w1"
    assert 59 < turn_row["until_next"].total_seconds() <= 60
    assert turn_row["since_run"].total_seconds() < WAIT_SECONDS
    other = await db.call("outlast_turn", p_name="optimize", p_every_seconds=60, p_worker="w1")
    assert other == {"mine": True}
    with pytest.raises(asyncpg.InvalidParameterValueError, match="p_every_seconds"):
        await turn(db, every=0)


def discarded(**item: Any) -> dict[str, Any]:
    body = base64.b64encode(b'\x00 no "text"').decode()
    return {"id": str(uuid4()), "item": item, "message_type": "outlast.job.v1", "body": body}


async def archive(db: Any, messages: list[dict[str, Any]], keep: int = 3600, by: str | None = "ops") -> int:
    answer = await db.call("outlast_archive", p_letters=messages, p_keep_seconds=keep, p_by=by)
    return int(answer["archived"])


async def test_a_discarded_message_is_archived_complete_and_once(db: Any) -> None:
    item = {
        "id": "l-1",
        "task_id": str(uuid4()),
        "binding": "b",
        "generation_id": "g",
        "user_id": "u",
        "code": "source_gone",
        "n": 1,
    }
    message = discarded(**item)
    assert await archive(db, [message, message]) == 1
    archived = await db.row("select * from public.outlast_dead_archive")
    assert (archived.pop("gone_after") - archived.pop("discarded_at")).total_seconds() == 3600
    assert str(archived.pop("id")) == message["id"]
    assert str(archived.pop("task_id")) == item["task_id"]
    assert base64.b64decode(archived.pop("body")) == b'\x00 no "text"'
    assert archived == {
        "letter_id": "l-1",
        "binding": "b",
        "generation_id": "g",
        "user_id": "u",
        "code": "source_gone",
        "item": item,
        "message_type": "outlast.job.v1",
        "discarded_by": "ops",
    }
    before = await db.contents("outlast_dead_archive")
    again = message | {"body": "another"}
    assert await archive(db, [again], by="another") == 1
    assert await db.contents("outlast_dead_archive") == before
    assert await archive(db, [again, discarded()]) == 2
    assert await archive(db, []) == 0


@pytest.mark.parametrize("task_id", [None, "no uuid", 7, {"a": 1}])
async def test_an_undecodable_message_is_archived_without_a_task(db: Any, task_id: Any) -> None:
    message = discarded(id="l", task_id=task_id) | {"message_type": None}
    assert await archive(db, [message]) == 1
    archived = await db.row("select task_id, item from public.outlast_dead_archive")
    assert archived == {"task_id": None, "item": message["item"]}


async def test_expired_archive_entries_are_deleted(db: Any) -> None:
    old, new = discarded(id="old"), discarded(id="new")
    assert await archive(db, [old], keep=0) == 1
    assert await archive(db, [new]) == 1
    assert await db.value("select array_agg(letter_id) from public.outlast_dead_archive") == ["new"]


async def test_concurrent_archiving_stores_each_message_once(db: Any) -> None:
    messages = [discarded(id=str(number)) for number in range(30)]
    await archive(db, [discarded() for _ in range(30)], keep=0)
    assert await asyncio.gather(*(archive(db, messages[:: 1 - 2 * (n % 2)]) for n in range(10))) == [30] * 10
    assert await db.value("select count(*) from public.outlast_dead_archive") == 30
