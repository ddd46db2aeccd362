"""The generation's row refuses an update: the files and the task are recorded all the same."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.contracts.postgres.conftest import new_job, stored_file
from tests.time_limits import WAIT_SECONDS

SLOW = """
create function public.slow() returns trigger language plpgsql as $$
begin
  perform pg_sleep(600);
  return new;
end $$;
create trigger slow before update on public.generations for each row execute function public.slow();
"""
FINISH = "select public.outlast_finish($1, $2, 'completed', $3, '[]')"


async def begun(db: Any) -> tuple[dict[str, Any], Any]:
    """Begin a task with one file; return its job and its lease."""
    job, lease = new_job(await db.generation(), ["a"]), uuid4()
    await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
    return job, lease


async def finish(db: Any, job: dict[str, Any], lease: Any) -> dict[str, Any]:
    """Finish a task with its file."""
    files = [stored_file(job["generation_id"], "a", job)]
    answer: dict[str, Any] = await db.call(
        "outlast_finish", p_task_id=job["task_id"], p_lease=lease, p_status="completed", p_files=files, p_failed=[]
    )
    return answer


async def test_a_trigger_that_is_slower_than_the_statement_timeout_costs_only_its_row(own_db: Any) -> None:
    job, lease = await begun(own_db)
    await own_db.run(SLOW)
    async with own_db.pool.acquire() as connection, asyncio.timeout(WAIT_SECONDS):
        await connection.execute("set statement_timeout = '500ms'")
        files = [stored_file(job["generation_id"], "a", job)]
        finished = await connection.fetchval(FINISH, job["task_id"], lease, files)
        await connection.execute("reset statement_timeout")
    assert (finished["state"], finished["status"]) == ("recorded", "completed")
    assert finished["row_rejected"].startswith("SQLSTATE 57014")
    task = await own_db.row("select status, error_code from public.outlast_tasks")
    assert task == {"status": "completed", "error_code": "row_rejected"}
    assert await own_db.value("select count(*) from public.outlast_files") == 1


async def test_a_deferred_trigger_that_refuses_the_row_costs_only_the_row(own_db: Any) -> None:
    job, lease = await begun(own_db)
    await own_db.run("""
    create function public.keep() returns trigger language plpgsql as $$
    begin
      raise exception 'rows are final';
    end $$;
    create constraint trigger keep after update on public.generations deferrable initially deferred
      for each row execute function public.keep();
    """)
    finished = await finish(own_db, job, lease)
    assert finished["row_rejected"] == "SQLSTATE P0001: rows are final"
    assert await own_db.value("select count(*) from public.outlast_files") == 1
    tried = await own_db.call("outlast_try_update")
    assert (tried["sqlstate"], tried["message"]) == ("P0001", "rows are final")


async def test_a_trigger_that_silently_keeps_the_old_row_is_reported(own_db: Any) -> None:
    await own_db.run("create table public.final (result text)")  # named without a schema
    await own_db.run("""
    create function public.final() returns trigger language plpgsql as $$
    begin
      insert into final values ('touched');
      return case when new.output = '"keep"' then old when new.output = '"accept"' then new end;
    end $$;
    create trigger final before update on public.generations for each row execute function public.final();
    """)
    for output, sqlstate in (("keep", "09000"), ("skip", "09000"), ("accept", None)):
        job = new_job(await own_db.generation(output=output), ["a"])
        lease = uuid4()
        await own_db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w")
        rejected = (await finish(own_db, job, lease)).get("row_rejected", "")
        assert rejected.startswith(f"SQLSTATE {sqlstate}") if sqlstate else not rejected, output
        assert (await own_db.call("outlast_try_update")).get("sqlstate") == sqlstate
        await own_db.run("alter table public.generations disable trigger final; delete from public.generations")
        await own_db.run("alter table public.generations enable trigger final")


async def test_the_trial_update_changes_nothing(own_db: Any) -> None:
    generation = await own_db.generation(status="completed")
    before = await own_db.row("select *, xmin::text from public.generations")
    assert await own_db.call("outlast_try_update") == {"id": generation}
    assert await own_db.row("select *, xmin::text from public.generations") == before


async def test_a_row_that_another_transaction_locks_is_written_later(own_db: Any, database_url: str) -> None:
    job, lease = await begun(own_db)
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction(), asyncio.timeout(WAIT_SECONDS):
            await holder.execute("select from public.generations for update")
            files = [stored_file(job["generation_id"], "a", job)]
            finished = await own_db.call(
                "outlast_finish",
                p_task_id=job["task_id"],
                p_lease=lease,
                p_status="completed",
                p_files=files,
                p_failed=[],
            )
    finally:
        await holder.close()
    assert finished["row_rejected"].startswith("SQLSTATE 55P03")
    assert await own_db.call("outlast_retry_rejected") == {"retried": 0, "written": 0}  # not due yet
    await own_db.run("update public.outlast_rejected_rows set retry_at = now()")
    assert await own_db.call("outlast_retry_rejected") == {"retried": 1, "written": 1}
    assert (await own_db.media(job["generation_id"]))[1] == "completed"
    assert await own_db.value("select error_code from public.outlast_tasks") is None


async def test_retries_of_a_row_end_after_ten(own_db: Any) -> None:
    job, lease = await begun(own_db)
    await own_db.run("alter table public.generations add check (media_status <> 'completed')")
    await finish(own_db, job, lease)
    retried = 0
    for _ in range(12):
        await own_db.run("update public.outlast_rejected_rows set retry_at = now() where retry_at < 'infinity'")
        retried += (await own_db.call("outlast_retry_rejected"))["retried"]
    assert retried == 10


async def test_a_lack_of_resources_is_raised(own_db: Any) -> None:
    """It concerns every row, so that the caller must take it for an outage."""
    job, lease = await begun(own_db)
    await own_db.run(SLOW.replace("perform pg_sleep(600);", "raise exception 'full' using errcode = '53100';"))
    with pytest.raises(asyncpg.DiskFullError):
        await finish(own_db, job, lease)
