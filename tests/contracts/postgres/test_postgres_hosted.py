"""Migrations as a hosted project's `postgres` role: no superuser, owns its tables, may create, bypasses RLS."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.postgres import BOOTSTRAP, MIGRATIONS, Postgres
from worker.cli.init_project import make_setup, removal_sql
from worker.settings import Settings

OWNER = """
do $$ begin
  if to_regrole('hosted_owner') is null then create role hosted_owner nosuperuser createrole bypassrls; end if;
end $$;
grant anon, authenticated, service_role to hosted_owner;
"""
HANDOVER = """
grant create on database "{name}" to hosted_owner;
grant usage on schema auth, extensions, net, storage to hosted_owner;
grant all on all tables in schema net to hosted_owner;
grant all on schema public to hosted_owner;
alter table public.generations owner to hosted_owner;
alter publication supabase_realtime owner to hosted_owner;
"""


@pytest.fixture
async def hosted(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a project without Outlast, as its owner."""
    name = f"hosted{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f'create database "{name}"')
    await admin.close()
    connection = await asyncpg.connect(postgres.database_url(name))
    await connection.execute(BOOTSTRAP.read_text())
    await connection.execute("set role none;" + OWNER)
    await connection.execute(HANDOVER.format(name=name))
    await connection.execute("set role hosted_owner")
    yield connection
    await connection.close()


async def test_the_local_project_has_the_roles_and_owners_of_the_platform(own_db: Any) -> None:
    assert await own_db.value("select current_user::text") == "postgres"
    role = await own_db.row("select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = 'postgres'")
    assert role == {"rolsuper": False, "rolbypassrls": True, "rolcreaterole": True}
    owned = "select distinct relnamespace::regnamespace::text as s from pg_class where relowner = 'postgres'::regrole"
    schemas = {row["s"] for row in await own_db.pool.fetch(owned)}
    assert "public" in schemas
    assert schemas.isdisjoint({"auth", "storage", "net"})
    for statement in (
        "alter table storage.objects add column mine text",
        "create trigger mine after insert on storage.objects execute function public.outlast_count_down()",
        "comment on table storage.buckets is 'mine'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own_db.run(statement)


async def test_creating_a_policy_locks_tables_of_auth_and_storage_until_the_transaction_ends(own_db: Any) -> None:
    async with own_db.pool.acquire() as connection, connection.transaction():
        await connection.execute("create policy mine on public.generations to anon using (true)")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await own_db.run("set lock_timeout = '10ms'; select from auth.users")
    assert await own_db.value("select count(*) from auth.users") == 0


async def migrate(hosted: asyncpg.Connection) -> None:
    for file in sorted(MIGRATIONS.glob("*.sql")):
        await hosted.execute(file.read_text())


async def test_without_rights_on_storage_the_migrations_warn_and_apply_the_rest(
    hosted: asyncpg.Connection,
) -> None:
    warnings: list[str] = []
    hosted.add_log_listener(lambda _connection, message: warnings.append(f"{message.severity}: {message.message}"))
    await migrate(hosted)
    assert any("this role may not set up Storage" in warning for warning in warnings)
    assert json.loads(await hosted.fetchval("select public.outlast_health()"))["storage_policy"] is False
    # On Supabase, `postgres` may create policies there without owning the table. Here it becomes the owner.
    await hosted.execute("set role none; alter table storage.objects owner to hosted_owner; set role hosted_owner")
    await hosted.execute("grant insert on storage.buckets to hosted_owner")
    await hosted.execute(make_setup(Settings(_env_file=None), None).sql)
    assert json.loads(await hosted.fetchval("select public.outlast_health()"))["storage_policy"] is True
    await hosted.execute(removal_sql(with_data=True))
    assert await hosted.fetchval("select count(*) from pg_proc where starts_with(proname, 'outlast_')") == 0


async def test_an_owner_without_superuser_can_apply_the_migrations_twice_and_use_them(
    hosted: asyncpg.Connection, make_job: Callable[..., Any]
) -> None:
    for _ in range(2):
        await migrate(hosted)
    await hosted.execute(
        "update public.outlast_settings set value = 'http://x' where key = 'webhook_url';"
        "update public.outlast_settings set value = 'whsec_c2VjcmV0' where key = 'webhook_secret'"
    )
    sql = "insert into public.generations (status, output) values ('completed', '{}') returning id::text"
    generation = await hosted.fetchval(sql)
    assert await hosted.fetchval("select count(*) from net.http_request_queue") == 1
    await hosted.execute("set role service_role")
    job, lease = make_job(generation, ["a"]), uuid4()
    begun = await hosted.fetchval("select public.outlast_begin($1, $2, 'w')", json.dumps(job), lease)
    assert json.loads(begun)["state"] == "run"
    finish = "select public.outlast_finish($1, $2, 'failed', '[]', '[]')"
    assert json.loads(await hosted.fetchval(finish, job["task_id"], lease))["state"] == "recorded"
    assert await hosted.fetchval("select media_status from public.generations") == "failed"
