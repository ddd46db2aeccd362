"""`outlast_finish`: records files, objects, reference counts and the task's status; repeated calls change nothing."""

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


async def test_concurrent_finishes_count_shared_objects_correctly(db: Any, make_job: Make, make_file: Make) -> None:
    """Each generation holds six of eight objects, in an order of its own; two generations have two tasks each."""
    order = random.Random(7)  # noqa: S311 - the same order in each run
    expected: dict[str, set[str]] = {}
    jobs = []
    for number in range(20):
        generation = f"g{number % 18}"
        objects = order.sample(range(8), 6)
        keys = [f"{generation}-{number // 18}-{position}" for position in range(6)]
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

    for _ in range(2):  # the second round repeats the calls of the first
        answers = await asyncio.gather(*(finish(*arguments) for arguments in jobs))
        assert answers == [{"state": "recorded", "status": "completed"}] * 20
        assert await db.refs() == {path: len(holders) for path, holders in expected.items()}


async def test_a_repeated_finish_changes_nothing(db: Any, make_job: Make, make_file: Make, path_of: Any) -> None:
    generation = await db.generation()
    job, lease = make_job(generation, ["a", "b"]), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    arguments = {
        "p_task_id": job["task_id"],
        "p_lease": lease,
        "p_status": "completed",
        "p_files": [make_file(generation, key, job) for key in ("a", "b")],
        "p_failed": [],
    }
    seen = []
    for _ in range(2):
        assert await db.call("outlast_finish", **arguments) == {"state": "recorded", "status": "completed"}
        seen.append([await db.contents(table) for table in TABLES])
    assert seen[0] == seen[1]
    assert await db.refs() == {path_of("a"): 1, path_of("b"): 1}


async def test_a_finish_with_another_lease_writes_nothing(db: Any, make_job: Make, make_file: Make) -> None:
    job, own = make_job("g", ["a"]), uuid4()
    arguments = {"p_task_id": job["task_id"], "p_status": "completed", "p_files": [make_file("g", "a")], "p_failed": []}
    assert (await db.call("outlast_finish", p_lease=own, **arguments))["state"] == "lost"
    await db.call("outlast_begin", p_job=job, p_lease=own, p_worker="w")
    assert (await db.call("outlast_finish", p_lease=uuid4(), **arguments))["state"] == "lost"
    assert await db.value("select count(*) from public.outlast_files") == 0
    assert (await db.call("outlast_finish", p_lease=own, **arguments))["state"] == "recorded"
    assert (await db.call("outlast_finish", p_lease=uuid4(), **arguments))["state"] == "lost"


async def test_an_object_being_deleted_refuses_the_finish(
    db: Any, make_job: Make, make_file: Make, path_of: Any
) -> None:
    await db.attempt(make_job("g1", ["a"]), stored=["a"])
    await db.run("update public.outlast_objects set state = 'deleting'")
    job, lease = make_job("g2", ["b", "a"]), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    files = [make_file("g2", key, job) for key in ("b", "a")]
    finished = await db.call(
        "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=files, p_failed=[]
    )
    assert FinishReply.model_validate(finished).state == "object_deleting"
    assert await db.refs() == {path_of("a"): 1}
    assert await db.value("select status from public.outlast_tasks where task_id = $1", job["task_id"]) == "running"
    known = {"p_user_id": USER, "p_source_sha256": files[1]["source_sha256"], "p_profile": files[1]["profile"]}
    assert await db.call("outlast_known", **known) is None


async def test_a_newer_file_replaces_the_older_one(db: Any, make_job: Make, make_file: Make, path_of: Any) -> None:
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


async def test_concurrent_tasks_with_one_source_leave_one_reference(db: Any, make_job: Make, make_file: Make) -> None:
    """Ten profiles of one source: the last one replaces the others, whose reference counts become 0."""

    async def attempt(number: int) -> str:
        profile = f"webp-q{number}-strip"
        job, lease = make_job("g", ["a"], profile=profile), uuid4()
        await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
        file = make_file("g", "a", path=f"{USER}/{number}.jpg", profile=profile)
        arguments = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": "completed", "p_failed": []}
        return str((await db.call("outlast_finish", p_files=[file], **arguments))["state"])

    assert await asyncio.gather(*(attempt(number) for number in range(10))) == ["recorded"] * 10
    stored_path = await db.value("select path from public.outlast_files")
    assert await db.refs() == {
        f"{USER}/{number}.jpg": int(stored_path == f"{USER}/{number}.jpg") for number in range(10)
    }


async def test_the_status_considers_all_attempts(
    db: Any, make_job: Make, make_file: Make, make_failure: Callable[[str], Any]
) -> None:
    """First attempt: a is stored, b fails and is not retried, c will be retried. Second attempt: c is stored."""
    job = make_job("g", ["a", "b", "c"])
    first, second = uuid4(), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=first, p_worker="w")
    arguments = {"p_task_id": job["task_id"], "p_lease": first, "p_status": "retrying"}
    failures = [make_failure("b"), make_failure("c")]
    finished = await db.call("outlast_finish", **arguments, p_files=[make_file("g", "a", job)], p_failed=failures)
    assert finished == {"state": "recorded", "status": "retrying"}

    again = job | {"positions": [2], "source_keys": ["c"], "attempt": 2}
    begun = BeginReply.model_validate(await db.call("outlast_begin", p_job=again, p_lease=second, p_worker="w"))
    assert (begun.state, begun.files) == ("run", [])
    arguments = {"p_task_id": job["task_id"], "p_lease": second, "p_status": "completed"}
    finished = await db.call("outlast_finish", **arguments, p_files=[make_file("g", "c", job)], p_failed=[])
    assert FinishReply.model_validate(finished).status == "partial"
    task = await db.row("select * from public.outlast_tasks where task_id = $1", job["task_id"])
    assert [file["source_key"] for file in task["failed"]] == ["b"]
    assert (task["error_code"], task["lease"]) == ("source_gone", None)
    assert task["result"]["successful_files"] == 2
    assert task["result"]["total_files"] == 3
    assert len(task["result"]["processed_file_ids"]) == 2
    assert task["finished_at"] is not None


async def test_known_finds_files_of_the_same_user_and_profile_only(
    own_db: Any, make_job: Make, make_file: Make
) -> None:
    db = own_db
    await db.run_as_superuser("drop schema storage cascade")  # otherwise only files whose object exists are found
    for user in (USER, None):
        job = make_job(f"g-{user}", [f"k-{user}"], user_id=user)
        await db.attempt(job, stored=[f"k-{user}"])
        file = make_file(job["generation_id"], f"k-{user}")
        query = {"p_source_sha256": file["source_sha256"], "p_profile": file["profile"]}
        found = ProcessedFile.model_validate(await db.call("outlast_known", p_user_id=user, **query))
        assert found.path == file["path"]
        assert await db.call("outlast_known", p_user_id="another", **query) is None
        query["p_profile"] = "keep-q85-strip"
        assert await db.call("outlast_known", p_user_id=user, **query) is None


async def test_an_unknown_status_is_refused_by_name(db: Any) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="p_status"):
        await db.call("outlast_finish", p_task_id=uuid4(), p_lease=uuid4(), p_status="done", p_files=[], p_failed=[])
