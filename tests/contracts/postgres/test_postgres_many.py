"""outlast_many: several calls in one transaction. None of them influences another, or waits for a stranger's row."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from handlers.database.batched_calls import BATCH_CALLS
from tests.contracts.postgres.conftest import PROFILE, new_job, stored_file
from tests.time_limits import WAIT_SECONDS

REFUSE = """
create function public.refuse() returns trigger language plpgsql as $$
begin
  raise exception 'not this row';
end $$;
create trigger refuse before update on public.generations for each row when (old.output = '"refuse"')
  execute function public.refuse();
"""
SLOW = """
create function public.slow() returns trigger language plpgsql as $$
begin
  perform pg_sleep({seconds});
  return new;
end $$;
create trigger slow before update on public.generations for each row when (old.output = '"slow"')
  execute function public.slow();
"""
CHILD_BEFORE_PARENT = """
create table public.parents (id uuid primary key);
create table public.children (parent uuid references public.parents deferrable initially deferred);
create table public.places (place int unique deferrable initially immediate);
create function public.count_places() returns trigger language plpgsql as $$
begin
  insert into public.children values (new.id);
  insert into public.parents values (new.id) on conflict do nothing;
  begin
    insert into public.places values (1), (1);
  exception when unique_violation then
    return new;
  end;
  raise exception 'this constraint is checked at once';
end $$;
create trigger count_places before update on public.generations for each row execute function public.count_places();
"""
SETTINGS = (
    "select array_agg(coalesce(current_setting(name, true), '') order by name) from unnest(array["
    "'outlast.own_media', 'outlast.own_update', 'outlast.in_batch', 'search_path', 'lock_timeout']) name"
)


def begin(job: dict[str, Any]) -> dict[str, Any]:
    """The arguments of outlast_begin for a new lease."""
    return {"p_job": job, "p_lease": str(uuid4()), "p_worker": "w", "p_lease_seconds": 30}


def finish(job: dict[str, Any], lease: str) -> dict[str, Any]:
    """The arguments of outlast_finish with the job's only file."""
    files = [stored_file(job["generation_id"], key, job) for key in job["source_keys"]]
    return {
        "p_task_id": job["task_id"],
        "p_lease": lease,
        "p_status": "completed",
        "p_files": files,
        "p_failed": [],
        "p_error": None,
    }


async def new_begins(db: Any, count: int, **outputs: str) -> list[dict[str, Any]]:
    """The arguments of outlast_begin for new generations of as many users; `o1="x"` is the output of the second."""
    calls = []
    for number in range(count):
        user = uuid4()
        generation = await db.generation(user_id=user, output=outputs.get(f"o{number}", {"images": []}))
        calls.append(begin(new_job(generation, [f"key{number}"], user_id=str(user))))
    return calls


async def many(db: Any, function: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answer to every call: on a slow machine, a batch may end early, and then another has the rest."""
    answers: list[dict[str, Any]] = await db.call("outlast_many", p_function=function, p_calls=calls)
    rest = calls[len(answers) :]
    return answers + await many(db, function, rest) if rest else answers


def states(answers: list[dict[str, Any]]) -> list[str]:
    """The state of each result, or the SQLSTATE of the failure."""
    return [answer["result"]["state"] if "result" in answer else answer["code"] for answer in answers]


async def media_statuses(db: Any, calls: list[dict[str, Any]]) -> list[str | None]:
    return [(await db.media(call["p_job"]["generation_id"]))[1] for call in calls]


async def test_each_function_answers_as_if_it_were_called_alone(db: Any) -> None:
    begins = await new_begins(db, 2)
    jobs = [call["p_job"] for call in begins]
    begun = await many(db, "outlast_begin", begins)
    assert [answer["result"]["generation_id"] for answer in begun] == [job["generation_id"] for job in jobs]
    again = begin(jobs[0])
    busy = await many(db, "outlast_begin", [again])
    alone = await db.call("outlast_begin", p_job=again["p_job"], p_lease=again["p_lease"], p_worker="w")
    assert busy[0]["result"].keys() == alone.keys()
    assert (busy[0]["result"]["state"], alone["state"]) == ("busy", "busy")
    claims = [{"p_bucket": "generations", "p_path": f"x/{n}.jpg", "p_user_id": "x"} for n in range(2)]
    assert await many(db, "outlast_claim", claims) == [{"result": {"state": "live"}}] * 2
    variants = [{"p_bucket": "generations", "p_paths": ["x/2.jpg", "x/3.jpg"], "p_user_id": "x"}]
    assert await many(db, "outlast_claim_all", variants) == [{"result": {"state": "live"}}]
    assert await db.value("select count(*) from public.outlast_objects where user_id = 'x'") == 4
    finishes = [finish(job, call["p_lease"]) for job, call in zip(jobs, begins, strict=True)]
    recorded = await many(db, "outlast_finish", finishes)
    assert recorded == [{"result": {"state": "recorded", "status": "completed"}}] * 2
    assert await media_statuses(db, begins) == ["completed"] * 2
    await db.run_as_superuser(
        "insert into storage.buckets (id, name) values ('generations', 'generations') on conflict do nothing;"
        "insert into storage.objects (bucket_id, name) select bucket, path from public.outlast_files"
        " where source_key = 'key0' on conflict do nothing"
    )
    file = finishes[0]["p_files"][0]
    known = {"p_user_id": jobs[0]["user_id"], "p_source_sha256": file["source_sha256"], "p_profile": PROFILE}
    answers = await many(db, "outlast_known", [known, known | {"p_profile": "other"}])
    assert answers == [{"result": await db.call("outlast_known", **known)}, {"result": None}]
    assert answers[0]["result"]["id"] == file["id"]


async def test_other_functions_are_refused(db: Any) -> None:
    for function in ("outlast_cancel", "pg_sleep", "", None):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await many(db, function, [{}])
    assert await many(db, "outlast_claim", []) == []


async def test_a_call_that_fails_is_undone_and_the_others_are_recorded(db: Any) -> None:
    begins = await new_begins(db, 3)
    begins[1]["p_job"] = {**begins[1]["p_job"], "event_at": "never"}
    answers = await many(db, "outlast_begin", begins)
    assert states(answers) == ["run", "22007", "run"]
    assert "never" in answers[1]["message"]
    assert await db.value("select count(*) from public.outlast_tasks") == 2


async def test_a_row_that_refuses_its_media_is_recorded_only_by_a_single_call(own_db: Any) -> None:
    begins = await new_begins(own_db, 3, o1="refuse")
    await own_db.run(REFUSE)
    assert states(await many(own_db, "outlast_begin", begins)) == ["run", "P0001", "run"]
    assert await own_db.value("select count(*) from public.outlast_rejected_rows") == 0
    assert await media_statuses(own_db, begins) == ["pending", None, "pending"]
    assert (await own_db.call("outlast_begin", **begins[1]))["state"] == "run"
    assert await own_db.value("select count(*) from public.outlast_rejected_rows") == 1
    finishes = [finish(call["p_job"], call["p_lease"]) for call in begins]
    assert states(await many(own_db, "outlast_finish", finishes)) == ["recorded", "P0001", "recorded"]
    assert await own_db.value("select count(*) from public.outlast_files") == 2


async def test_no_setting_of_a_call_is_left_for_the_next_one(own_db: Any) -> None:
    """Neither after an update, nor after an error in the middle of one; then an update of the row sends its webhook."""
    begins = await new_begins(own_db, 3, o1="refuse")
    other = await own_db.generation(status="processing")
    await own_db.run(
        "insert into public.outlast_settings values ('webhook_url', 'http://w'), ('webhook_secret', "
        "'whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0') on conflict (key) do update set value = excluded.value"
    )
    await own_db.install()
    await own_db.run(REFUSE)
    await own_db.run("delete from net.http_request_queue")
    async with own_db.role("service_role") as connection:
        before = await connection.fetchval(SETTINGS)
        for calls in (begins[:2], begins[2:]):
            await connection.fetchval("select public.outlast_many('outlast_begin', $1)", calls)
            assert await connection.fetchval(SETTINGS) == before
        await connection.execute("update public.generations set status = 'completed' where id = $1::uuid", other)
    assert await own_db.value("select count(*) from net.http_request_queue") == 1


async def test_constraints_are_checked_for_each_row_when_they_would_be_alone(own_db: Any) -> None:
    begins = await new_begins(own_db, 3)
    await own_db.run(CHILD_BEFORE_PARENT)
    assert states(await many(own_db, "outlast_begin", begins)) == ["run"] * 3
    assert await own_db.value("select count(*) from public.outlast_rejected_rows") == 0
    finishes = [finish(call["p_job"], call["p_lease"]) for call in begins]
    assert states(await many(own_db, "outlast_finish", finishes)) == ["recorded"] * 3
    assert await own_db.value("select count(*) from public.children") == 6
    assert await own_db.value("select count(*) from public.places") == 0


async def test_the_calls_beside_a_locked_row_are_recorded_while_it_is_locked(db: Any) -> None:
    begins = await new_begins(db, 3)
    async with db.pool.acquire() as other, other.transaction():
        locked = begins[1]["p_job"]["generation_id"]
        await other.execute("select from public.generations where id = $1::uuid for update", locked)
        async with asyncio.timeout(WAIT_SECONDS):
            assert states(await many(db, "outlast_begin", begins)) == ["run", "55P03", "run"]
    assert await db.value("select count(*) from public.outlast_rejected_rows") == 0


async def test_a_slow_call_ends_the_batch(own_db: Any) -> None:
    begins = await new_begins(own_db, 4, o1="slow")
    await own_db.run(SLOW.format(seconds=0.3))
    answers = await own_db.call("outlast_many", p_function="outlast_begin", p_calls=begins)
    assert 1 <= len(answers) <= 2
    assert await own_db.value("select count(*) from public.outlast_tasks") == len(answers)


async def test_a_statement_timeout_undoes_all_calls_and_records_no_refusing_row(own_db: Any) -> None:
    begins = await new_begins(own_db, 2, o1="slow")
    await own_db.run(SLOW.format(seconds=600))
    async with own_db.pool.acquire() as connection, asyncio.timeout(WAIT_SECONDS):
        await connection.execute("set statement_timeout = '500ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.fetchval("select public.outlast_many('outlast_begin', $1)", begins)
        await connection.execute("reset statement_timeout")
    assert await own_db.value("select count(*) from public.outlast_tasks") == 0
    assert await own_db.value("select count(*) from public.outlast_rejected_rows") == 0


async def test_transactions_that_lock_in_opposite_order_do_not_deadlock(db: Any) -> None:
    """Two batches of two workers, as if they were not in the order of users: each waits for the other's object."""
    claims = [{"p_bucket": "generations", "p_path": f"{user}/x.jpg", "p_user_id": user} for user in ("a", "b")]
    async with db.role("service_role") as one, db.role("service_role") as two, asyncio.timeout(WAIT_SECONDS):
        call = "select public.outlast_many('outlast_claim', $1)"
        assert states(await one.fetchval(call, claims[:1])) == ["live"]
        assert states(await two.fetchval(call, claims[1:])) == ["live"]
        both = await asyncio.gather(one.fetchval(call, claims[1:]), two.fetchval(call, claims[:1]))
    assert [states(answers) for answers in both] == [["55P03"], ["55P03"]]
    assert await db.value("select count(*) from public.outlast_objects") == 2


async def test_a_full_batch_has_at_most_the_subtransactions_that_a_snapshot_can_list(db: Any) -> None:
    """With more than 64 of a transaction, snapshots of all sessions become slower (PGPROC_MAX_CACHED_SUBXIDS)."""
    begins = await new_begins(db, BATCH_CALLS)
    for function, calls in (
        ("outlast_begin", begins),
        ("outlast_finish", [finish(call["p_job"], call["p_lease"]) for call in begins]),
    ):
        before = await db.value("select txid_current()")
        made = await db.call("outlast_many", p_function=function, p_calls=calls)
        ids = await db.value("select txid_current()") - before - 1
        assert all("result" in answer for answer in made)
        assert (ids - 1) * BATCH_CALLS <= 64 * len(made)
