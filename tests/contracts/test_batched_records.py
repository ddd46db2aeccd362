"""Calls of many jobs that go in batches to the gateway and the real SQL functions: one pending request suffices."""

import asyncio
from collections import Counter
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from handlers.database import batched_calls
from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.errors import RowRejectedError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from schemas.tasks import TaskStatus
from tests.contracts.test_task_records import job, stored
from tests.time_limits import WAIT_SECONDS

USERS = [f"{number:08}-0000-4000-8000-000000000000" for number in range(12)]
SLOW_ROW = """
create function public.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
create trigger slow before update on public.generations for each row when (old.output = '"slow"')
  execute function public.slow();
"""
REFUSED_AT_COMMIT = """
create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'no such user'; end $$;
create constraint trigger refuse after insert on public.outlast_tasks deferrable initially deferred
  for each row when (new.user_id like '00000005%') execute function public.refuse();
"""


class Requests(Observer):
    """`sizes`: how many requests had how many calls."""

    def __init__(self):
        self.sizes = Counter()

    def called(self, calls):
        self.sizes[calls] += 1


@pytest.fixture(autouse=True)
def batch_from_one_pending_request(monkeypatch):
    monkeypatch.setattr(batched_calls, "BATCH_FROM_PENDING", 1)
    monkeypatch.setattr(batched_calls, "WAIT_SECONDS", 3600.0)


@pytest.fixture
async def gateway(database_url, tmp_path):
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as running:
        yield running


@pytest.fixture
def supabase(gateway):
    """Make clients of the project, as of several workers."""

    def make(observer):
        url, key = gateway.url, SecretStr(gateway.service_role_key)
        settings = MediaSettings(_env_file=None, supabase_url=url, supabase_service_role_key=key)
        return Supabase(settings, observer)

    return make


@pytest.fixture
def requests():
    return Requests()


@pytest.fixture
async def records(supabase, requests):
    async with supabase(requests) as client, asyncio.timeout(WAIT_SECONDS):
        yield TaskRecords(client)


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def insert(sql, user, output='{"images": []}'):
    """Insert a completed generation; return its id."""
    insert = "insert into generations (user_id, status, output) values ($1, 'completed', $2) returning id::text"
    return await sql.fetchval(insert, user, output)


async def run(records, task_job):
    """Let a job of two files go its whole way; return the reply to the end."""
    lease = uuid4()
    begun = await records.begin(task_job, lease, "w", 1)
    assert begun.state == "run"
    files = [stored(task_job, position) for position in (0, 1)]
    for file in files:
        path = f"{task_job.user_id}/{file.path}"
        assert await records.find_stored(task_job.user_id, file.source_sha256, file.profile) is None
        await records.claim_object(file.bucket, path, task_job.user_id)
    files = [file.model_copy(update={"path": f"{task_job.user_id}/{file.path}"}) for file in files]
    return await records.finish(task_job, lease, TaskStatus.COMPLETED, files, [])


async def test_jobs_of_many_users_are_recorded_as_they_would_be_alone(records, requests, sql):
    jobs = [job(await insert(sql, user), user_id=user) for user in USERS]
    replies = await asyncio.gather(*(run(records, task_job) for task_job in jobs))
    assert [reply.status for reply in replies] == [TaskStatus.COMPLETED] * len(jobs)
    assert await sql.fetchval("select count(*) from generations where media_status = 'completed'") == len(jobs)
    assert await sql.fetchval("select count(*) from outlast_files") == 2 * len(jobs)
    assert await sql.fetchval("select count(*) from outlast_objects where refs = 1") == 2 * len(jobs)
    assert max(requests.sizes) > 2


async def test_workers_whose_jobs_share_objects_in_opposite_order_all_end(supabase):
    both = Requests(), Requests()
    async with supabase(both[0]) as one, supabase(both[1]) as two, asyncio.timeout(WAIT_SECONDS):
        pairs = [(TaskRecords(one), USERS), (TaskRecords(two), USERS[::-1])]
        for _ in range(10):
            claims = (
                records.claim_object("generations", f"{user}/x", user) for records, users in pairs for user in users
            )
            await asyncio.gather(*claims)
    assert all(max(requests.sizes) > 2 for requests in both)


async def test_a_locked_row_holds_up_only_its_own_job(records, requests, sql, database_url):
    jobs = [job(await insert(sql, user), user_id=user) for user in USERS[:5]]
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select from generations where id::text = $1 for update", jobs[2].generation_id)
    begins = [asyncio.create_task(records.begin(task_job, uuid4(), "w", 1)) for task_job in jobs]
    replies = await asyncio.gather(*begins[:2], *begins[3:])
    assert [reply.state for reply in replies] == ["run"] * 4
    await transaction.rollback()
    await other.close()
    assert (await begins[2]).state == "run"
    assert max(requests.sizes) > 1


async def test_a_row_that_is_slower_than_the_statement_timeout_fails_no_other_job(records, requests, sql):
    jobs = [job(await insert(sql, user), user_id=user) for user in USERS[:4]]
    slow = job(await insert(sql, USERS[4], '"slow"'), user_id=USERS[4])
    await sql.execute(SLOW_ROW)
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"set role none; alter database {name} set statement_timeout = '2s'")
    replies = await asyncio.gather(*(records.begin(task_job, uuid4(), "w", 1) for task_job in [*jobs, slow]))
    assert [reply.state for reply in replies] == ["run"] * 5
    assert await sql.fetchval("select count(*) from generations where media_status = 'pending'") == 4
    assert await sql.fetchval("select generation_id from outlast_rejected_rows") == slow.generation_id
    assert max(requests.sizes) > 1


async def test_a_call_that_is_refused_at_the_commit_fails_no_other_call(records, requests, sql):
    await sql.execute(REFUSED_AT_COMMIT)
    jobs = [job(str(uuid4()), user_id=user) for user in USERS]
    begins = (records.begin(task_job, uuid4(), "w", 1) for task_job in jobs)
    replies = await asyncio.gather(*begins, return_exceptions=True)
    assert [type(reply) for reply in replies].index(RowRejectedError) == 5
    assert [reply.state for reply in replies if not isinstance(reply, RowRejectedError)] == ["run"] * 11
    assert max(requests.sizes) > 1


async def test_a_database_of_version_0_1_0_gets_single_calls(records, requests, sql):
    await sql.execute("drop function outlast_many")
    jobs = [job(str(uuid4()), user_id=user) for user in USERS]
    replies = await asyncio.gather(*(run(records, task_job) for task_job in jobs))
    assert [reply.status for reply in replies] == [TaskStatus.COMPLETED] * len(jobs)
    assert sum(count for calls, count in requests.sizes.items() if calls > 1) == 1
