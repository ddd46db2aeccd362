"""`outlast_missing`: generations without a task, split events with a missing part, and idle tasks."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.time_limits import WAIT_SECONDS

Make = Callable[..., dict[str, Any]]


async def missing(db: Any, **arguments: Any) -> list[tuple[str, str]]:
    return [(found["generation_id"], found["reason"]) for found in await db.call("outlast_missing", **arguments)]


async def test_a_completed_generation_without_a_task_is_missing(db: Any, make_job: Make) -> None:
    output = {"images": [{"url": "https://v3.fal.media/a.png"}]}
    generation = await db.generation(output=output, request_id="r-1")
    await db.generation(status="pending")
    await db.generation(output=None)
    (found,) = await db.call("outlast_missing")
    assert found.pop("created_at")
    assert found == {
        "generation_id": generation,
        "user_id": "11111111-1111-4111-8111-111111111111",
        "request_id": "r-1",
        "output": output,
        "reason": "no_task",
    }
    await db.call("outlast_begin", p_job=make_job(generation, ["a"]), p_lease=uuid4(), p_worker="w")
    assert await missing(db) == []


async def test_a_missing_part_of_a_split_event_is_reported_once_the_other_has_ended(db: Any, make_job: Make) -> None:
    generation, lease = await db.generation(), uuid4()
    part = make_job(generation, ["a"], all_keys=["a", "b"])
    await db.call("outlast_begin", p_job=part, p_lease=lease, p_worker="w")
    assert await missing(db) == []
    arguments = {"p_task_id": part["task_id"], "p_lease": lease, "p_status": "failed", "p_files": [], "p_failed": []}
    await db.call("outlast_finish", **arguments)
    assert await missing(db) == [(generation, "incomplete")]
    await db.attempt(make_job(generation, ["b"], first=1, all_keys=["a", "b"]), stored=["b"])
    assert await missing(db) == []


@pytest.mark.parametrize("end", ["completed", "partial", "failed", "cancelled", "cancelled before its start"])
async def test_ended_tasks_are_never_missing(db: Any, make_job: Make, end: str) -> None:
    generation = await db.generation()
    job = make_job(generation, ["a", "b"])
    if end == "cancelled before its start":
        await db.call("outlast_cancel", p_task_id=job["task_id"])
        await db.call("outlast_begin", p_job=job, p_lease=uuid4(), p_worker="w")
    elif end == "cancelled":
        await db.call("outlast_begin", p_job=job, p_lease=uuid4(), p_worker="w")
        await db.call("outlast_cancel", p_task_id=job["task_id"])
    else:
        stored = {"completed": ["a", "b"], "partial": ["a"], "failed": []}[end]
        assert await db.attempt(job, stored, [key for key in ("a", "b") if key not in stored]) == end
    await db.run("update public.outlast_tasks set updated_at = now() - interval '1 day'")
    assert await missing(db) == []


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
async def test_an_idle_task_is_missing_after_the_idle_time(db: Any, make_job: Make, status: str) -> None:
    generation = await db.generation()
    await db.call("outlast_enqueue", p_job=make_job(generation, ["a"]))
    await db.run("update public.outlast_tasks set status = $1, updated_at = now() - interval '3 hours'", status)
    assert await missing(db) == [(generation, "idle")]
    assert await missing(db, p_idle_seconds=4 * 3600) == []
    await db.run("update public.outlast_tasks set lease_until = now() + interval '20 seconds'")
    assert await missing(db) == []


async def test_an_idle_task_without_a_row_has_no_output(db: Any, make_job: Make) -> None:
    job = make_job("no uuid", ["a"])
    await db.call("outlast_enqueue", p_job=job)
    (found,) = await db.call("outlast_missing", p_idle_seconds=-1)
    assert (found["generation_id"], found["output"], found["task_id"]) == ("no uuid", None, job["task_id"])


async def test_since_and_limit_apply_and_the_oldest_come_first(db: Any) -> None:
    made = [
        await db.value(
            "insert into public.generations (status, output, created_at)"
            " values ('completed', '{}', now() - make_interval(hours => $1)) returning id::text",
            hours,
        )
        for hours in (1, 3, 2)
    ]
    assert [found for found, _ in await missing(db, p_limit=2)] == [made[1], made[2]]
    since = await db.value("select now() - interval '90 minutes'")
    assert [found for found, _ in await missing(db, p_since=since)] == [made[0]]


async def test_20000_completed_generations_are_checked_quickly(own_db: Any) -> None:
    """The index on a generation's tasks is used: it takes less than a second, and minutes without the index."""
    await own_db.run(
        "insert into public.generations (status, output) select 'completed', '{}' from generate_series(1, 20000)"
    )
    await own_db.run(
        "insert into public.outlast_tasks (task_id, generation_id, status, positions, total_files, output_key)"
        " select gen_random_uuid(), id::text, 'completed', '{0}', 1, 'k' from public.generations"
    )
    await own_db.run("analyze public.outlast_tasks")
    without_task = await own_db.generation()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await missing(own_db) == [(without_task, "no_task")]
