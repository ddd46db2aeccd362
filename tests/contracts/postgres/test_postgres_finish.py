"""What finish records: files, objects and their references, the task's own status; once, whoever repeats it."""

import asyncio
import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from schemas.files import ProcessedFile
from schemas.tasks import BeginReply, FinishReply

Make = Callable[..., dict[str, Any]]
TABLES = ("outlast_tasks", "outlast_files", "outlast_objects", "generations")
USER = "11111111-1111-4111-8111-111111111111"


async def test_twenty_finishes_that_share_objects_count_them_right(db: Any, make_job: Make, make_file: Make) -> None:
    """Each generation holds six of eight objects, in an order of its own; two generations have two tasks each."""
    order = random.Random(7)  # noqa: S311 - any order will do, the same each time
    expected: dict[str, set[str]] = {}
    jobs = []
    for number in range(20):
        generation = f"g{number % 18}"
        objects = order.sample(range(8), 6)
        keys = [f"{generation}-{number // 18}-{place}" for place in range(6)]
        job, lease = make_job(generation, keys), uuid4()
        await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
        files = [make_file(generation, key, job, path=f"{USER}/o{o}.jpg") for key, o in zip(keys, objects, strict=True)]
        for file in files:
            expected.setdefault(file["path"], set()).add(f"{generation} {file['source_key']}")
        jobs.append((job, lease, files))

    async def finish(job: dict[str, Any], lease: Any, files: list[Any]) -> Any:
        return await db.call(
            "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=files, p_failed=[]
        )

    for _ in range(2):  # the second round repeats every word of the first
        answers = await asyncio.gather(*(finish(*arguments) for arguments in jobs))
        assert answers == [{"state": "recorded", "status": "completed"}] * 20
        assert await db.refs() == {path: len(holders) for path, holders in expected.items()}


async def test_finishing_twice_changes_nothing_more(db: Any, make_job: Make, make_file: Make, path_of: Any) -> None:
    generation = await db.generation()
    job, lease = make_job(generation, ["a", "b"]), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    told = {
        "p_task_id": job["task_id"],
        "p_lease": lease,
        "p_status": "completed",
        "p_files": [make_file(generation, key, job) for key in ("a", "b")],
        "p_failed": [],
    }
    seen = []
    for _ in range(2):
        assert await db.call("outlast_finish", **told) == {"state": "recorded", "status": "completed"}
        seen.append([await db.contents(table) for table in TABLES])
    assert seen[0] == seen[1]
    assert await db.refs() == {path_of("a"): 1, path_of("b"): 1}


async def test_another_lease_writes_nothing(db: Any, make_job: Make, make_file: Make) -> None:
    job, mine = make_job("g", ["a"]), uuid4()
    told = {"p_task_id": job["task_id"], "p_status": "completed", "p_files": [make_file("g", "a")], "p_failed": []}
    assert (await db.call("outlast_finish", p_lease=mine, **told))["state"] == "lost"
    await db.call("outlast_begin", p_job=job, p_lease=mine, p_worker="w")
    assert (await db.call("outlast_finish", p_lease=uuid4(), **told))["state"] == "lost"
    assert await db.value("select count(*) from public.outlast_files") == 0
    assert (await db.call("outlast_finish", p_lease=mine, **told))["state"] == "recorded"
    assert (await db.call("outlast_finish", p_lease=uuid4(), **told))["state"] == "lost"


async def test_an_object_being_deleted_stops_everything(db: Any, make_job: Make, make_file: Make, path_of: Any) -> None:
    await db.attempt(make_job("g1", ["a"]), stored=["a"])
    await db.run("update public.outlast_objects set state = 'deleting'")
    job, lease = make_job("g2", ["b", "a"]), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    files = [make_file("g2", key, job) for key in ("b", "a")]
    answer = await db.call(
        "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=files, p_failed=[]
    )
    assert FinishReply.model_validate(answer).state == "object_deleting"
    assert await db.refs() == {path_of("a"): 1}
    assert await db.value("select status from public.outlast_tasks where task_id = $1", job["task_id"]) == "running"
    known = {"p_user_id": USER, "p_source_sha256": files[1]["source_sha256"], "p_profile": files[1]["profile"]}
    assert await db.call("outlast_known", **known) is None


async def test_a_newer_file_takes_the_older_ones_place(db: Any, make_job: Make, make_file: Make, path_of: Any) -> None:
    await db.attempt(make_job("g", ["a"]), stored=["a"])
    await db.attempt(make_job("h", ["a"]), stored=["a"])
    assert await db.refs() == {path_of("a"): 2}
    job, lease = make_job("g", ["a"], profile="keep-q85-strip"), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    file = make_file("g", "a", path=path_of("better"), profile="keep-q85-strip")
    await db.call(
        "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=[file], p_failed=[]
    )
    assert await db.refs() == {path_of("a"): 1, path_of("better"): 1}


async def test_tasks_that_store_one_file_at_once_leave_one_reference(db: Any, make_job: Make, make_file: Make) -> None:
    """Ten profiles of one source: whoever comes last replaces the others, and theirs are counted down to nothing."""

    async def attempt(number: int) -> str:
        profile = f"webp-q{number}-strip"
        job, lease = make_job("g", ["a"], profile=profile), uuid4()
        await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
        file = make_file("g", "a", path=f"{USER}/{number}.jpg", profile=profile)
        told = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
        return str((await db.call("outlast_finish", p_files=[file], **told))["state"])

    assert await asyncio.gather(*(attempt(number) for number in range(10))) == ["recorded"] * 10
    kept = await db.value("select path from public.outlast_files")
    assert await db.refs() == {f"{USER}/{number}.jpg": int(kept == f"{USER}/{number}.jpg") for number in range(10)}


async def test_the_status_is_judged_from_all_attempts(
    db: Any, make_job: Make, make_file: Make, make_failure: Callable[[str], Any]
) -> None:
    """First: a stored, b hopeless, c to be tried again. Then a retry that carries only c, and stores it."""
    job = make_job("g", ["a", "b", "c"])
    first, second = uuid4(), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=first, p_worker="w")
    told = {"p_task_id": job["task_id"], "p_lease": first, "p_status": "retrying"}
    failures = [make_failure("b"), make_failure("c")]
    answer = await db.call("outlast_finish", **told, p_files=[make_file("g", "a", job)], p_failed=failures)
    assert answer == {"state": "recorded", "status": "retrying"}

    again = job | {"positions": [2], "source_keys": ["c"], "attempt": 2}
    begun = BeginReply.model_validate(await db.call("outlast_begin", p_job=again, p_lease=second, p_worker="w"))
    assert (begun.state, begun.files) == ("run", [])
    told = {"p_task_id": job["task_id"], "p_lease": second, "p_status": "completed"}
    answer = await db.call("outlast_finish", **told, p_files=[make_file("g", "c", job)], p_failed=[])
    assert FinishReply.model_validate(answer).status == "partial"
    task = await db.row("select * from public.outlast_tasks where task_id = $1", job["task_id"])
    assert [file["source_key"] for file in task["failed"]] == ["b"]
    assert (task["error_code"], task["lease"]) == ("source_gone", None)
    assert task["result"]["successful_files"] == 2
    assert task["result"]["total_files"] == 3
    assert len(task["result"]["processed_file_ids"]) == 2
    assert task["finished_at"] is not None


async def test_known_finds_the_users_own_file_only(own_db: Any, make_job: Make, make_file: Make) -> None:
    db = own_db
    await db.run("drop schema storage cascade")  # where objects are told of, they must be there
    for user in (USER, None):
        job = make_job(f"g-{user}", [f"k-{user}"], user_id=user)
        await db.attempt(job, stored=[f"k-{user}"])
        file = make_file(job["generation_id"], f"k-{user}")
        asked = {"p_source_sha256": file["source_sha256"], "p_profile": file["profile"]}
        found = ProcessedFile.model_validate(await db.call("outlast_known", p_user_id=user, **asked))
        assert found.path == file["path"]
        assert await db.call("outlast_known", p_user_id="another", **asked) is None
        asked["p_profile"] = "keep-q85-strip"
        assert await db.call("outlast_known", p_user_id=user, **asked) is None


async def test_an_unknown_status_is_refused_by_name(db: Any) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="p_status"):
        await db.call("outlast_finish", p_task_id=uuid4(), p_lease=uuid4(), p_status="done", p_files=[], p_failed=[])
