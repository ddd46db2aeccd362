"""`outlast_begin` completes a task whose files the user has already, and no other task."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from schemas.tasks import BeginReply
from tests.contracts.postgres.conftest import USER, stored_file
from tests.contracts.postgres.test_postgres_known_sources import begin, put, store

Make = Callable[..., dict[str, Any]]
REFUSE = """
create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'rows are final'; end $$;
create trigger refuse before update on public.generations for each row execute function public.refuse();
"""


@pytest.fixture
async def known(own_db: Any, make_job: Make, make_file: Make) -> Any:
    """A database with a generation whose files `a` and `b` are stored."""
    job = make_job("g1", ["a", "b"])
    await store(own_db, job, make_file("g1", "a", job), make_file("g1", "b", job))
    for key in "ab":
        await put(own_db, f"{USER}/{key}.jpg")
    return own_db


def with_duplicates(job: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a job as a worker sends it whose files are all immutable."""
    names = ("id", "position", "original_filename", "source_url", "source_key")
    files = [stored_file(job["generation_id"], key, job) for key in job["source_keys"]]
    identities = [{name: file[name] for name in names} for file in files]
    duplicates = {"bucket": "generations", "max_bytes": 1000, "files": identities}
    return {"binding": "generations"} | job | {"duplicates": duplicates | more}


async def begin_known(db: Any, job: dict[str, Any], **more: Any) -> BeginReply:
    """Begin a job all of whose files are immutable."""
    _, reply = await begin(db, with_duplicates(job, **more), *job["source_keys"])
    return reply


async def test_a_task_whose_files_are_all_known_is_completed(known: Any, make_job: Make) -> None:
    generation = await known.generation()
    job = make_job(generation, ["b", "a"])
    reply = await begin_known(known, job)
    assert (reply.state, reply.status, reply.row_rejected) == ("recorded", "completed", None)
    assert sorted(file.source_key for file in reply.files) == ["a", "b"]
    assert await known.media(generation) == ([f"{USER}/b.jpg", f"{USER}/a.jpg"], "completed")
    assert await known.refs() == {f"{USER}/a.jpg": 2, f"{USER}/b.jpg": 2}
    rows = "select array_agg(id::text order by position) as ids, bool_and(deduplicated) as all from outlast_files"
    found = await known.row(f"{rows} where generation_id = $1", generation)
    assert found == {"ids": [stored_file(generation, key)["id"] for key in "ba"], "all": True}
    task = await known.row(
        "select lease, attempt, worker, started_at <= finished_at as timed from outlast_tasks where generation_id = $1",
        generation,
    )
    assert task == {"lease": None, "attempt": 1, "worker": "w", "timed": True}
    again = await begin_known(known, job)
    assert (again.state, len(again.files)) == ("done", 2)


async def test_the_row_is_written_once(known: Any, make_job: Make) -> None:
    await known.run("create table public.writes (status text)")
    await known.run(
        "create function public.note() returns trigger language plpgsql security definer as $$ begin "
        "insert into public.writes values (new.media_status); return null; end $$; "
        "create trigger note after update on public.generations for each row execute function public.note()"
    )
    await begin_known(known, make_job(await known.generation(), ["a"]))
    assert await known.value("select array_agg(status) from public.writes") == ["completed"]


async def test_a_row_that_refuses_its_media_is_reported(known: Any, make_job: Make) -> None:
    generation = await known.generation()
    await known.run(REFUSE)
    reply = await begin_known(known, make_job(generation, ["a"]))
    assert (reply.state, reply.row_rejected) == ("recorded", "SQLSTATE P0001: rows are final")
    assert await known.value("select count(*) from public.outlast_rejected_rows") == 1


async def test_part_of_an_output_leaves_the_row_pending(known: Any, make_job: Make) -> None:
    generation = await known.generation()
    assert (await begin_known(known, make_job(generation, ["a"], all_keys=["a", "c"]))).state == "recorded"
    assert await known.media(generation) == ([f"{USER}/a.jpg"], "pending")


async def test_tasks_of_a_batch_are_completed(known: Any, make_job: Make) -> None:
    jobs = [with_duplicates(make_job(f"g{number}", ["a"]), files=[]) for number in (2, 3)]
    jobs[1] = with_duplicates(make_job("g3", ["a"]))
    calls = [{"p_job": job | {"immutable": ["a"]}, "p_lease": str(uuid4()), "p_worker": "w"} for job in jobs]
    answers = await known.call("outlast_many", p_function="outlast_begin", p_calls=calls)
    assert [answer["result"]["state"] for answer in answers] == ["run", "recorded"]


RUN: dict[str, dict[str, Any]] = {
    "in another bucket": {"bucket": "others"},
    "larger than the limit": {"max_bytes": 999},
    "not named by the worker": {"files": []},
}


@pytest.mark.parametrize("why", RUN)
async def test_a_file_that_the_worker_would_not_use_is_left_to_it(known: Any, make_job: Make, why: str) -> None:
    reply = await begin_known(known, make_job("g2", ["a"]), **RUN[why])
    assert (reply.state, len(reply.known)) == ("run", 1)
    assert await known.value("select status from outlast_tasks where generation_id = 'g2'") == "running"


CHANGES = {
    "stored without a check": "update outlast_files set content_type = 'application/octet-stream'",
    "of a binding with folders": "update outlast_bindings set object_path = 'shared'",
    "of a binding with another bucket": "update outlast_bindings set bucket = 'others'",
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_file_that_may_be_stored_in_another_way_is_left_to_the_worker(
    known: Any, make_job: Make, what: str
) -> None:
    await known.run(CHANGES[what])
    assert (await begin_known(known, make_job("g2", ["a"]))).state == "run"


async def test_a_file_in_the_bucket_of_the_binding_is_used(known: Any, make_job: Make) -> None:
    await known.run("update outlast_bindings set bucket = 'generations'")
    assert (await begin_known(known, make_job("g2", ["a"]), bucket="others")).state == "recorded"


async def test_a_job_with_an_unknown_or_a_stored_file_is_run(known: Any, make_job: Make, make_file: Make) -> None:
    reply = await begin_known(known, make_job("g2", ["a", "c"]))
    assert (reply.state, [file.source_key for file in reply.known]) == ("run", ["a"])
    assert await known.value("select count(*) from outlast_files where generation_id = 'g2'") == 0
    job = make_job("g3", ["a"])
    await store(known, job, make_file("g3", "a", job))
    reply = await begin_known(known, make_job("g3", ["a", "b"]))
    assert (reply.state, [file.source_key for file in reply.files]) == ("run", ["a"])


async def test_a_task_that_the_worker_cannot_identify_is_run(known: Any, make_job: Make) -> None:
    job = make_job("g2", ["a"])
    assert (await begin(known, job, "a"))[1].state == "run", "an earlier version of the worker"
    await known.run("update outlast_tasks set lease = null")
    assert (await begin_known(known, job | {"binding": "others"})).state == "run", "ids derive from the binding"


async def test_a_cancelled_task_stays_cancelled(known: Any, make_job: Make) -> None:
    job = make_job("g2", ["a"])
    await known.call("outlast_cancel", p_task_id=job["task_id"])
    assert (await begin_known(known, job)).state == "cancelled"
    assert await known.value("select count(*) from outlast_files where generation_id = 'g2'") == 0
