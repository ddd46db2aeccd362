"""Files that a worker skipped on purpose: their entries in `media`, and what they mean for the generation's status."""

from typing import Any
from uuid import uuid4

import pytest

from handlers.media import MEDIA_TYPES, UNVERIFIED
from schemas.formats import SKIPPED
from tests.contracts.postgres.conftest import failed_file, new_job, stored_file

CASES: dict[str, tuple[str, str, str]] = {  # first letters: what becomes of each file; then the task's and row's status
    "beside a stored file": ("stored skipped", "completed", "completed"),
    "alone": ("skipped", "completed", "completed"),
    "all of several": ("skipped skipped", "completed", "completed"),
    "beside a stored and a failed file": ("stored skipped failed", "partial", "partial"),
    "beside a failed file": ("skipped failed", "failed", "failed"),
    "while another file will be retried": ("stored skipped pending", "retrying", "pending"),
}


def skipped_file(key: str) -> dict[str, Any]:
    return failed_file(key) | {"code": SKIPPED, "error": "the type is not supported"}


async def record(db: Any, generation: str, outcomes: list[str], status: str) -> dict[str, Any]:
    """Run one attempt whose files end as `outcomes` say; return the answer of `outlast_finish`."""
    keys = [f"key{position}" for position in range(len(outcomes))]
    job, lease = new_job(generation, keys), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    ended = dict(zip(keys, outcomes, strict=True))
    finished = await db.call(
        "outlast_finish",
        p_task_id=job["task_id"],
        p_lease=lease,
        p_status=status,
        p_files=[stored_file(generation, key, job) for key in keys if ended[key] == "stored"],
        p_failed=[
            skipped_file(key) if ended[key] == "skipped" else failed_file(key) for key in keys if ended[key] != "stored"
        ],
    )
    assert finished["state"] == "recorded"
    return finished


@pytest.mark.parametrize("case", CASES)
async def test_a_skipped_file_has_an_entry_with_its_code_and_is_no_failure(db: Any, case: str) -> None:
    words, task_status, media_status = CASES[case]
    outcomes, generation = words.split(), await db.generation()
    assert (await record(db, generation, outcomes, task_status))["status"] == task_status
    entries = await db.entries(generation)
    codes = {"skipped": SKIPPED, "failed": "source_gone"}
    assert [(entry["position"], entry["status"], entry.get("code")) for entry in entries] == [
        (position, outcome, codes.get(outcome)) for position, outcome in enumerate(outcomes)
    ]
    assert (await db.media(generation))[1] == media_status
    error_code = await db.value("select error_code from public.outlast_tasks")
    assert error_code == (None if task_status == "completed" else "source_gone")


@pytest.mark.parametrize("outcomes", [["skipped"], ["stored", "skipped"], ["skipped", "failed"]])
async def test_a_generation_with_a_skipped_file_is_not_missing(db: Any, outcomes: list[str]) -> None:
    generation = await db.generation()
    await record(db, generation, outcomes, "failed" if "failed" in outcomes else "completed")
    await db.run("update public.outlast_tasks set updated_at = now() - interval '1 day'")
    assert await db.call("outlast_missing") == []


async def test_a_file_that_is_stored_after_all_is_no_longer_skipped(db: Any) -> None:
    """As after a replay of the same files with another profile and UNSUPPORTED_FILES=keep."""
    generation = await db.generation()
    await record(db, generation, ["skipped"], "completed")
    job, lease = new_job(generation, ["key0"], profile="another"), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    file = stored_file(generation, "key0", job, content_type=UNVERIFIED.content_type)
    await db.call(
        "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=[file], p_failed=[]
    )
    (entry,) = await db.entries(generation)
    assert (entry["status"], entry.get("code"), entry["kind"]) == ("stored", None, "data")


async def test_the_kind_of_an_entry_is_that_of_its_type(db: Any) -> None:
    sql = """
select t, public.outlast_media_entry(file) ->> 'kind' from unnest($1::text[]) t,
  jsonb_populate_record(null::public.outlast_files, jsonb_build_object('content_type', t)) file
"""
    kinds = {media.content_type: media.kind for media in (*MEDIA_TYPES, UNVERIFIED)}
    assert dict(await db.pool.fetch(sql, list(kinds))) == kinds
