"""A row is deleted and inserted again with the same id by another user: nothing of the first owner reaches it."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.contracts.postgres.conftest import USER, Database, new_job, open_database, stored_file

ATTACKER = str(uuid4())
LATER = "2026-11-01T11:00:00Z"


@pytest.fixture
async def db(database_url):
    async with open_database(database_url) as database:
        yield database


async def begin(db: Database, job: dict[str, Any]) -> tuple[UUID, dict[str, Any]]:
    lease = uuid4()
    return lease, await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")


async def finish(db: Database, job: dict[str, Any], lease: UUID) -> str:
    files = [stored_file(job["generation_id"], key, job) for key in job["source_keys"]]
    reply = await db.call(
        "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=files, p_failed=[]
    )
    return reply["state"]


async def reinsert(db: Database, generation: str) -> None:
    """Delete the victim's row, and insert one with its id as the attacker."""
    await db.run("delete from public.generations where id = $1::uuid", generation)
    assert await db.generation(id=UUID(generation), user_id=UUID(ATTACKER)) == generation


async def row(db: Database, generation: str) -> tuple[Any, Any]:
    found = await db.row("select media, media_status from public.generations where id = $1::uuid", generation)
    return found["media"], found["media_status"]


async def test_a_running_task_of_the_first_owner_does_not_write_to_the_row(db):
    generation = await db.generation()
    lease, _ = await begin(db, job := new_job(generation, ["secret"]))
    await reinsert(db, generation)
    assert await finish(db, job, lease) == "recorded"
    assert await row(db, generation) == (None, None)


async def test_a_waiting_task_of_the_first_owner_does_not_write_to_the_row(db):
    generation = await db.generation()
    await reinsert(db, generation)
    assert await db.attempt(new_job(generation, ["secret"]), stored=["secret"]) == "completed"
    assert await row(db, generation) == (None, None)


@pytest.mark.parametrize("end", ["outlast_cancel", "outlast_enqueue", "outlast_requeue"])
async def test_no_later_call_for_the_first_owners_task_writes_to_the_row(db, end):
    generation = await db.generation()
    lease, _ = await begin(db, job := new_job(generation, ["secret"]))
    await reinsert(db, generation)
    if end == "outlast_cancel":
        await db.call(end, p_task_id=job["task_id"])
    else:
        await finish(db, job, lease)
        await db.call(end, **({"p_job": job} if end == "outlast_enqueue" else {"p_jobs": [job]}))
    assert await row(db, generation) == (None, None)


async def test_the_media_have_only_the_files_of_the_new_owner(db):
    """FAL's webhook names the first owner's request, which the new row copies: two tasks, one of each owner."""
    generation = await db.generation(request_id="r")
    lease, _ = await begin(db, job := new_job(generation, ["secret"], source="fal", request_id="r", event_at=LATER))
    await db.run("delete from public.generations where id = $1::uuid", generation)
    await db.generation(id=UUID(generation), user_id=UUID(ATTACKER), request_id="r")
    own = new_job(generation, ["own"], user_id=ATTACKER, request_id="r")
    assert await db.attempt(own, stored=["own"]) == "completed"
    assert await finish(db, job, lease) == "recorded"
    assert [entry["original_filename"] for entry in await db.entries(generation)] == ["own.png"]


async def test_the_same_files_are_processed_again_for_the_new_owner(db):
    """They are in the first owner's folder. Their task has the same id, because the files are the same."""
    generation = await db.generation()
    assert await db.attempt(new_job(generation, ["a", "b"]), stored=["a", "b"]) == "completed"
    await reinsert(db, generation)
    lease, reply = await begin(db, job := new_job(generation, ["a", "b"], user_id=ATTACKER, event_at=LATER))
    assert (reply["state"], reply["user_id"], reply["files"]) == ("run", ATTACKER, [])
    assert {entry["status"] for entry in await db.entries(generation)} == {"pending"}
    assert await finish(db, job, lease) == "recorded"
    assert {entry["status"] for entry in await db.entries(generation)} == {"stored"}
    assert await db.value("select array_agg(distinct user_id) from public.outlast_files") == [ATTACKER]


async def test_a_worker_of_the_first_owner_loses_the_task_of_the_same_files(db):
    generation = await db.generation()
    first, _ = await begin(db, job := new_job(generation, ["a"]))
    await reinsert(db, generation)
    _, reply = await begin(db, new_job(generation, ["a"], user_id=ATTACKER, event_at=LATER))
    assert (reply["state"], reply["user_id"]) == ("run", ATTACKER)
    assert await finish(db, job, first) == "lost"
    assert await db.value("select count(*) from public.outlast_files") == 0


async def test_an_older_event_does_not_take_a_task_back(db):
    generation = await db.generation(user_id=UUID(ATTACKER))
    await begin(db, new_job(generation, ["a"], user_id=ATTACKER, event_at=LATER))
    _, reply = await begin(db, new_job(generation, ["a"]))
    assert reply["state"] == "busy"
    assert await db.value("select user_id from public.outlast_tasks") == ATTACKER


async def test_the_sweep_finds_the_new_owners_row(db):
    generation = await db.generation()
    assert await db.attempt(new_job(generation, ["a"]), stored=["a"]) == "completed"
    await reinsert(db, generation)
    (missing,) = await db.call("outlast_missing")
    assert (missing["generation_id"], missing["user_id"], missing["reason"]) == (generation, ATTACKER, "no_task")


@pytest.mark.parametrize("user", [USER.upper(), None])
async def test_a_task_that_the_back_end_submitted_for_the_owner_or_for_nobody_is_written(db, user):
    generation = await db.generation()
    await db.attempt(new_job(generation, ["a"], source="api", user_id=user), stored=["a"])
    assert [entry["status"] for entry in await db.entries(generation)] == ["stored"]
