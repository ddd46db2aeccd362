"""The short path of `outlast_media` for one task with one file gives what the general query gives."""

import itertools
from typing import Any
from uuid import uuid4

import pytest

from tests.contracts.postgres.conftest import USER

STATUSES = ("queued", "running", "retrying", "completed", "partial", "failed", "cancelled")
FAILURES = (
    [],
    [{"source_key": "a", "code": "source_gone", "error": "gone"}],
    [{"source_key": "a", "code": "type_skipped", "error": "skipped"}],
    [{"source_key": "other", "code": "source_gone", "error": "gone"}],
)
SKIPPED = (None, "source_unsupported")
SOURCES = ("supabase", "fal", None)
STATES = list(itertools.product(STATUSES, FAILURES, SKIPPED, (False, True), (0, 1, 2), (USER, "other")))


async def media(db: Any, function: str, task: dict[str, Any]) -> tuple[Any, Any]:
    row = await db.row(
        f"select media, media_status from public.{function}('generations', $1, null, $2)",  # noqa: S608 - fixed names
        task["generation_id"],
        task["user_id"],
    )
    return row["media"], row["media_status"]


async def insert(db: Any, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    source = f"jsonb_populate_record(null::public.{table}, $1)"
    await db.run(f"insert into public.{table} ({names}) select {names} from {source}", row)  # noqa: S608 - fixed names


async def record(db: Any, task: dict[str, Any], stored: dict[str, Any] | None, owner: str) -> None:
    """Insert a task, and the file of this owner if it is stored."""
    await insert(db, "outlast_tasks", task)
    if stored:
        file = {name: value for name, value in stored.items() if name != "md5"}
        await insert(db, "outlast_files", file | {"generation_id": task["generation_id"], "user_id": owner})


@pytest.mark.parametrize("source", SOURCES)
async def test_the_short_path_agrees_with_the_general_query(
    db: Any, make_job: Any, make_file: Any, source: Any
) -> None:
    statuses = set()
    for status, failed, skipped, is_stored, total, owner in STATES:
        generation = str(uuid4())
        entry = {"source_key": "a", "position": 0, "field": "images[0]", "source_url": "https://v3.fal.media/a.png"}
        job = make_job(generation, ["a"], source=source) | {"status": status, "failed": failed, "total_files": total}
        task = job | {"files": [entry | ({"code": skipped} if skipped else {})], "error_code": "attempts_exhausted"}
        await record(db, task, make_file(generation, "a", job) if is_stored else None, owner)
        short, general = [await media(db, name, task) for name in ("outlast_media", "outlast_media_of_tasks")]
        assert short == general, task
        statuses.add((short[1], short[0][0]["status"]))
    assert statuses >= {(None, "skipped"), ("pending", "pending"), ("completed", "stored"), ("failed", "failed")}
    assert statuses >= {("completed", "skipped"), ("pending", "failed"), ("pending", "stored")}


async def test_a_task_of_another_owner_and_a_second_task_take_the_general_query(db: Any, make_job: Any) -> None:
    generation = str(uuid4())
    first = make_job(generation, ["a"]) | {"status": "queued"}
    await record(db, first, None, USER)
    stranger = first | {"user_id": "somebody"}
    assert await media(db, "outlast_media", stranger) == (None, None)
    assert await media(db, "outlast_media", stranger) == await media(db, "outlast_media_of_tasks", stranger)
    second = make_job(generation, ["b"], event_at="2026-11-01T11:00:00Z") | {"status": "queued"}
    await record(db, second, None, USER)
    listed, status = await media(db, "outlast_media", first)
    assert ([entry["position"] for entry in listed], status) == ([0], "pending")
    assert (listed, status) == await media(db, "outlast_media_of_tasks", first)
