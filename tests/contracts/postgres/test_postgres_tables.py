"""Tables of applications: partitioned ones, and columns whose type the application changes."""

import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.postgres import apply_migrations
from worker.cli.init_project import removal_sql

PARTITIONED = """
alter table public.generations rename to old_generations;
create table public.generations (
  id uuid default gen_random_uuid(), user_id uuid, prompt text, status text, output jsonb, request_id text,
  created_at timestamptz default now(), updated_at timestamptz, primary key (id, created_at)
) partition by range (created_at);
create table public.generations_old partition of public.generations for values from (minvalue) to ('2026-01-01');
create table public.generations_new partition of public.generations for values from ('2026-01-01') to (maxvalue);
"""
CONFIGURE = """
update public.outlast_settings set value = 'http://127.0.0.1:1/webhooks/supabase' where key = 'webhook_url';
update public.outlast_settings set value = 'whsec_c2VjcmV0' where key = 'webhook_secret';
"""
SENT = "select convert_from(body, 'UTF8') as body from net.http_request_queue order by id"


async def events(db: Any) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in await db.pool.fetch(SENT)]


async def test_a_partitioned_table_can_be_bound_applied_again_and_removed(own_db, database_url, make_job):
    await own_db.run(PARTITIONED + CONFIGURE)
    for _ in range(3):
        await apply_migrations(database_url)
    health = await own_db.call("outlast_health")
    assert (health["trigger"], health["triggers_current"], health["sweep_index"]) == (True, True, True)

    columns = "user_id, status, output, created_at"
    insert = f"insert into public.generations ({columns}) values ($1, $2, '[]', $3::text::timestamptz)"  # noqa: S608
    user = uuid4()
    for status, created_at in (("pending", "2020-05-05"), ("completed", "now")):
        await own_db.run(insert, user, status, created_at)
    await own_db.run("update public.generations set status = 'completed'")
    sent = await events(own_db)
    assert [event["outlast"]["binding"] for event in sent] == ["generations", "generations"]
    missing = await own_db.call("outlast_missing")
    assert len(missing) == 2
    generation = missing[0]["generation_id"]
    assert await own_db.attempt(make_job(generation, ["a"], user_id=str(user)), stored=["a"]) == "completed"
    assert (await own_db.media(generation))[1] == "completed"
    await own_db.run("delete from public.generations where id = $1::text::uuid", generation)
    assert await own_db.value("select generation_id from public.outlast_deletions") == generation

    await own_db.run(removal_sql(with_data=True))
    assert await own_db.value("select count(*) from pg_trigger where tgname like 'outlast%'") == 0
    assert await own_db.value("select count(*) from pg_class where relname like 'outlast%'") == 0


CHANGES = {
    "status to an enum": (
        "create type public.state as enum ('pending', 'completed');"
        "alter table public.generations alter status drop default, alter status type state using status::state"
    ),
    "status to varchar": "alter table public.generations alter status type varchar(20)",
    "output to text": "alter table public.generations alter output type text",
    "output to json": "alter table public.generations alter output type json",
    "created_at to timestamp": "alter table public.generations alter created_at type timestamp",
    "id to text": "alter table public.generations alter id drop default, alter id type text",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_the_application_can_change_the_type_of_a_column(own_db, change):
    await own_db.run(CONFIGURE)
    first, second = str(uuid4()), str(uuid4())
    insert = "insert into public.generations (id, status, output) values ($1::text::{id}, 'pending', '[1]')"
    connection = await own_db.pool.acquire()  # one session sees the types before and after the change
    try:
        await connection.execute(insert.format(id="uuid"), first)
        await connection.execute(CHANGES[change])
        await connection.execute(insert.format(id="text" if "id to" in change else "uuid"), second)
        await connection.execute("update public.generations set status = 'completed'")
        assert len(await events(own_db)) == 2
        await connection.execute("update public.generations set status = status, prompt = 'x'")
        assert len(await events(own_db)) == 2, "nothing changed"
        await connection.execute("update public.generations set output = '[2]'")
        assert len(await events(own_db)) == 4
    finally:
        await own_db.pool.release(connection)
    health = await own_db.call("outlast_health")
    assert (health["triggers_current"], health["sweep_index"]) == (True, True)
    assert {found["generation_id"] for found in await own_db.call("outlast_missing")} == {first, second}


async def test_a_renamed_column_is_a_warning_and_fails_no_statement(own_db):
    await own_db.run(CONFIGURE + "alter table public.generations rename column status to state")
    await own_db.run("insert into public.generations (state, output) values ('completed', '[]')")
    assert await events(own_db) == []
    with pytest.raises(asyncpg.UndefinedColumnError, match="status_column = status"):
        await own_db.install()
