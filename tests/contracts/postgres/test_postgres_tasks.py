"""SQL functions of a task: begin, heartbeat, progress, cancel, enqueue."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.time_limits import WAIT_SECONDS

WAITING = "select count(distinct pid) from pg_locks where not granted"

Make = Callable[..., dict[str, Any]]


async def begin(db: Any, job: dict[str, Any], lease: UUID | None = None, seconds: int = 30) -> dict[str, Any]:
    answer: dict[str, Any] = await db.call(
        "outlast_begin", p_job=job, p_lease=lease or uuid4(), p_worker="w1", p_lease_seconds=seconds
    )
    return answer


async def finish(db: Any, job: dict[str, Any], lease: UUID, status: str, files: Any = (), failed: Any = ()) -> Any:
    return await db.call(
        "outlast_finish",
        p_task_id=job["task_id"],
        p_lease=lease,
        p_status=status,
        p_files=list(files),
        p_failed=list(failed),
    )


async def task(db: Any, job: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = await db.row("select * from public.outlast_tasks where task_id = $1", job["task_id"])
    return row


async def test_begin_runs_a_new_task_and_records_it(db: Any, make_job: Make) -> None:
    generation = await db.generation()
    job, lease = make_job(generation, ["a", "b"], user_id=None, attempt=3), uuid4()
    answer = await begin(db, job, lease)
    assert answer == {
        "state": "run",
        "binding": "generations",
        "generation_id": generation,
        "user_id": "11111111-1111-4111-8111-111111111111",
        "files": [],
        "total": 2,
        "stored": 0,
        "sees_storage": True,
    }
    recorded = await task(db, job)
    assert (recorded["status"], recorded["lease"], recorded["attempt"]) == ("running", lease, 3)
    assert recorded["positions"] == [0, 1]
    assert recorded["source_keys"] == ["a", "b"]
    assert await db.media(generation) == ([], "pending")


async def test_a_generation_without_a_row_is_not_an_error(db: Any, make_job: Make) -> None:
    for generation in (str(uuid4()), "not a UUID", "7"):
        assert await db.attempt(make_job(generation, [f"a{generation}"]), stored=[f"a{generation}"]) == "completed"


async def test_begin_answers_done_only_for_completed(db: Any, make_job: Make) -> None:
    done, failed = make_job("g1", ["a"]), make_job("g2", ["b"])
    assert await db.attempt(done, stored=["a"]) == "completed"
    assert await db.attempt(failed, stored=[], failed=["b"]) == "failed"
    again = await begin(db, done)
    assert again["state"] == "done"
    assert [file["source_key"] for file in again["files"]] == done["source_keys"]
    assert (await begin(db, failed))["state"] == "run"


async def test_begin_returns_the_files_stored_with_the_same_profile(db: Any, make_job: Make) -> None:
    assert await db.attempt(make_job("g", ["a", "b"]), stored=["a"], failed=["b"]) == "partial"
    answer = await begin(db, make_job("g", ["a", "b"], source="fal"))
    assert [file["source_key"] for file in answer["files"]] == ["a"]
    assert answer["files"][0]["original_filename"] == "a.png"
    other = await begin(db, make_job("g", ["a", "b"], profile="webp-q80-strip"))
    assert other["files"] == []


async def test_begin_is_busy_while_another_lease_is_valid(db: Any, make_job: Make) -> None:
    job, own = make_job("g", ["a"]), uuid4()
    assert (await begin(db, job, own))["state"] == "run"
    answer = await begin(db, job)
    assert answer["state"] == "busy"
    assert 25 < answer["retry_after"] <= 30
    assert (await begin(db, job, own))["state"] == "run"
    assert (await db.call("outlast_heartbeat", p_worker="w1", p_leases=[own], p_stats={}, p_lease_seconds=-1)) == {
        "lost": [],
        "cancelled": [],
        "paused": [],
    }
    assert (await begin(db, job))["state"] == "run"


@pytest.mark.parametrize("before", ["unknown", "queued", "failed", "expired"])
async def test_of_twenty_concurrent_begins_one_runs(db: Any, make_job: Make, before: str) -> None:
    generation = await db.generation()
    job = make_job(generation, ["a"])
    if before == "queued":
        await db.call("outlast_enqueue", p_job=job)
    elif before == "failed":
        await db.attempt(job, stored=[], failed=["a"])
    elif before == "expired":
        await begin(db, job, seconds=-1)
    async with asyncio.TaskGroup() as group, db.role("postgres") as holder:
        # All calls wait for the lock on the task's row, if it exists, so that they run concurrently.
        rows = await holder.fetch("select from public.outlast_tasks for update")
        answers = [group.create_task(begin(db, job)) for _ in range(20)]
        async with asyncio.timeout(WAIT_SECONDS):
            while await db.value(WAITING) < 20 * len(rows):
                await asyncio.sleep(0.01)
    assert Counter(answer.result()["state"] for answer in answers) == {"run": 1, "busy": 19}


async def test_a_fal_job_finds_its_generation_by_request_id(db: Any, make_job: Make) -> None:
    job = make_job(None, ["a"], source="fal", request_id="r-1", user_id=None)
    assert await begin(db, job) == {"state": "no_generation", "shared": False}
    assert await db.value("select count(*) from public.outlast_tasks") == 0
    generation = await db.generation(request_id="r-1")
    answer = await begin(db, job)
    assert (answer["state"], answer["generation_id"]) == ("run", generation)
    assert answer["user_id"] == "11111111-1111-4111-8111-111111111111"


async def test_a_cancelled_task_neither_begins_nor_records_files(db: Any, make_job: Make, make_file: Make) -> None:
    generation = await db.generation()
    job, lease = make_job(generation, ["a"]), uuid4()
    await begin(db, job, lease)
    assert await db.call("outlast_cancel", p_task_id=job["task_id"]) == {"cancelled": True, "status": "cancelled"}
    beat = await db.call("outlast_heartbeat", p_worker="w1", p_leases=[lease], p_stats={})
    assert beat == {"lost": [], "cancelled": [job["task_id"]], "paused": []}
    answer = await finish(db, job, lease, "completed", [make_file(generation, "a")])
    assert answer["state"] == "cancelled"
    assert await db.value("select count(*) from public.outlast_files") == 0
    assert await db.media(generation) == ([], None)
    assert await begin(db, job) == {"state": "cancelled"}


async def test_a_task_cancelled_before_its_start_stays_cancelled_until_enqueued(db: Any, make_job: Make) -> None:
    job = make_job("g", ["a", "b"])
    for _ in range(2):
        assert await db.call("outlast_cancel", p_task_id=job["task_id"]) == {"cancelled": True, "status": "cancelled"}
    assert await begin(db, job) == {"state": "cancelled"}
    recorded = await task(db, job)
    assert recorded["source_keys"] == ["a", "b"]
    assert recorded["event_at"] == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert await db.call("outlast_enqueue", p_job=job) == {"task_id": job["task_id"], "status": "queued"}
    assert (await begin(db, job))["state"] == "run"


async def test_a_final_task_cannot_be_cancelled(db: Any, make_job: Make) -> None:
    job = make_job("g", ["a"])
    await db.attempt(job, stored=["a"])
    assert await db.call("outlast_cancel", p_task_id=job["task_id"]) == {"cancelled": False, "status": "completed"}


@pytest.mark.parametrize(
    ("stored", "failed", "before", "after"),
    [(["a"], [], "completed", "completed"), ([], ["a"], "failed", "queued"), (["a"], ["b"], "partial", "queued")],
)
async def test_enqueue_repeats_failed_and_partial_tasks_only(
    db: Any, make_job: Make, stored: list[str], failed: list[str], before: str, after: str
) -> None:
    job = make_job("g", ["a", "b"])
    assert await db.attempt(job, stored=stored, failed=failed) == before
    assert (await db.call("outlast_enqueue", p_job=job))["status"] == after
    assert (await task(db, job))["failed"] == []


async def test_after_enqueue_the_former_lease_is_lost(db: Any, make_job: Make, make_file: Make) -> None:
    job, old = make_job("g", ["a"]), uuid4()
    await begin(db, job, old)
    await db.call("outlast_cancel", p_task_id=job["task_id"])
    await db.call("outlast_enqueue", p_job=job)
    beat = await db.call("outlast_heartbeat", p_worker="w1", p_leases=[old], p_stats={})
    assert beat == {"lost": [str(old)], "cancelled": [], "paused": []}
    assert (await finish(db, job, old, "completed", [make_file("g", "a")]))["state"] == "lost"
    assert (await begin(db, job))["state"] == "run"


async def test_heartbeat_renews_held_leases_and_returns_lost_ones(db: Any, make_job: Make) -> None:
    own, taken, done = make_job("g1", ["a"]), make_job("g2", ["b"]), make_job("g3", ["c"])
    leases = {name: uuid4() for name in ("own", "taken", "done")}
    await begin(db, own, leases["own"], seconds=-5)
    await begin(db, taken, leases["taken"], seconds=-5)
    await begin(db, taken)
    await begin(db, done, leases["done"])
    await finish(db, done, leases["done"], "retrying")
    beat = await db.call("outlast_heartbeat", p_worker="w1", p_leases=list(leases.values()), p_stats={"active": 3})
    assert beat == {"lost": [str(leases["taken"])], "cancelled": [], "paused": []}
    assert await db.value("select lease_until > now() from public.outlast_tasks where task_id = $1", own["task_id"])
    assert await db.value("select stats from public.outlast_workers where worker = 'w1'") == {"active": 3}


async def test_progress_is_recorded_only_with_the_held_lease(db: Any, make_job: Make) -> None:
    job, lease = make_job("g", ["a"]), uuid4()
    await begin(db, job, lease)
    items = [
        {"task_id": job["task_id"], "lease": str(lease), "progress": {"done": 1}},
        {"task_id": job["task_id"], "lease": str(uuid4()), "progress": {"done": 9}},
        {"task_id": str(uuid4()), "lease": str(lease), "progress": {"done": 9}},
    ]
    assert await db.call("outlast_progress", p_items=items) == {"updated": 1}
    assert (await task(db, job))["progress"] == {"done": 1}


async def test_a_job_without_an_id_is_refused_by_name(db: Any) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="task_id"):
        await begin(db, {"generation_id": "g"})
