"""The SQL applied again: what is in place is left alone, what is broken is repaired, and nobody waits for it."""

import asyncio
import json
import re
from typing import Any

import asyncpg
import pytest

from deploy.local.postgres import MIGRATIONS
from tests.time_limits import FAST_SECONDS, WAIT_SECONDS
from worker.cli.init_project import make_setup
from worker.cli.migrations import newest_version
from worker.settings import Settings

FILES = sorted(MIGRATIONS.glob("*.sql"))
HEAVY_LOCKS = """
select distinct l.relation::regclass::text || ' ' || l.mode as lock
from pg_locks l join pg_class c on c.oid = l.relation
where l.pid = pg_backend_pid() and l.mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
  and c.relnamespace::regnamespace::text in ('public', 'auth', 'storage', 'net')
"""
CREATES_POLICY = re.compile(r"create policy", re.IGNORECASE)


async def apply_all(connection: asyncpg.Connection) -> None:
    for file in FILES:
        await connection.execute(file.read_text())


@pytest.fixture
async def connection(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_applied_again_it_takes_no_lock_that_a_reader_or_writer_waits_for(connection):
    setup = make_setup(Settings(_env_file=None), None).sql
    await connection.execute(setup)
    for sql in (*(file.read_text() for file in FILES), re.sub(r"^(begin|commit);$", "", setup, flags=re.MULTILINE)):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(sql)
        assert [row["lock"] for row in await connection.fetch(HEAVY_LOCKS)] == [], sql[:80]
        await transaction.commit()


async def test_in_either_order_the_database_gets_the_version_of_the_newest_migration(connection):
    for apply in (apply_all(connection), connection.execute(make_setup(Settings(_env_file=None), None).sql)):
        await apply
        version = await connection.fetchval("select value from public.outlast_settings where key = 'version'")
        assert version == newest_version() == FILES[-1].name[:14]


def test_only_one_migration_creates_policies_and_init_applies_it_last():
    """On Supabase, `create policy` locks tables of Auth and Storage until the transaction ends."""
    creating = [
        file
        for file in FILES
        if CREATES_POLICY.search("\n".join(line.partition("--")[0] for line in file.read_text().splitlines()))
    ]
    (policies,) = creating
    setup = make_setup(Settings(_env_file=None), None).sql
    (first, second) = re.findall(r"^begin;$(.*?)^commit;$", setup, re.MULTILINE | re.DOTALL)
    assert policies.read_text() in second
    assert policies.read_text() not in first
    assert all(file.read_text() in first for file in FILES if file != policies)


BROKEN = {
    "row security is off": ("alter table public.outlast_tasks disable row level security", ("tables", "outlast_tasks")),
    "an index is absent": ("drop index public.outlast_tasks_newest", None),
    "a column is absent": ("alter table public.outlast_objects drop column kept", None),
    "a trigger is absent": ("drop trigger outlast_tasks_gone on public.outlast_tasks", None),
    "a notifying trigger is off": (
        "alter table public.generations disable trigger outlast_notify_update",
        ("trigger", None),
    ),
    "a trigger of another definition": (
        (
            "drop trigger outlast_notify_insert on public.generations; create trigger outlast_notify_insert"
            " after insert on public.generations for each row execute function public.outlast_notify()"
        ),
        ("triggers_current", None),
    ),
    "the sweep's index is absent": ("drop index public.outlast_unheard", ("sweep_index", None)),
    "anon may read": ("grant select on public.outlast_settings to anon", None),
    "everybody may write": ("grant update on public.outlast_files to public", None),
    "the service role may not write": ("revoke insert on public.outlast_tasks from service_role", None),
    "users may not read": ("revoke select on public.outlast_files from authenticated", None),
    "a policy is absent": ('drop policy "users read their own tasks" on public.outlast_tasks', None),
    "a policy of the first version": (
        (
            'drop policy "users read their own files" on public.outlast_files;'
            'create policy "users read their own files" on public.outlast_files'
            " for select to authenticated using (user_id = (select auth.uid())::text)"
        ),
        None,
    ),
    "the bucket's policy is absent": (
        'drop policy "outlast: users read their own folder" on storage.objects',
        ("storage_policy", None),
    ),
}
CATALOGUE = """
select string_agg(line, E'\\n' order by line) from (
  select format('%s %s %s', oid::regclass, relrowsecurity, array(select a::text from unnest(relacl) a order by 1))
      as line from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')
  union all select format('%s %s %s', attrelid::regclass, attname, atttypid::regtype) from pg_attribute
    where attnum > 0 and not attisdropped and attrelid::regclass::text like 'outlast_%'
  union all select pg_get_triggerdef(oid) || tgenabled::text || coalesce(obj_description(oid, 'pg_trigger'), '')
    from pg_trigger where not tgisinternal
  union all select format('%s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) from pg_policy
) c
"""


@pytest.mark.parametrize("case", BROKEN)
async def test_what_is_broken_is_repaired(connection, case):
    statement, health_key = BROKEN[case]
    intact = await connection.fetchval(CATALOGUE)
    await connection.execute(statement)
    assert await connection.fetchval(CATALOGUE) != intact
    if health_key is not None:
        assert not await health_value(connection, health_key)
    await apply_all(connection)
    assert await connection.fetchval(CATALOGUE) == intact


async def health_value(connection: asyncpg.Connection, key: tuple[str, str | None]) -> Any:
    value = json.loads(await connection.fetchval("select public.outlast_health()"))[key[0]]
    return value[key[1]] if key[1] else value


@pytest.mark.parametrize(
    ("damage", "table"),
    [
        ("drop index public.outlast_files_known", "public.outlast_tasks"),
        ("drop trigger outlast_notify_update on public.generations", "public.generations"),
        ('drop policy "users read their own tasks" on public.outlast_tasks', "storage.objects"),
    ],
)
async def test_a_change_that_cannot_lock_gives_up_with_advice_and_blocks_nobody(
    connection, database_url, damage, table
):
    await connection.execute(damage)
    reader = await asyncpg.connect(database_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute(f"lock table {table} in access share mode")  # a long report, for example
    applying = asyncio.create_task(apply_all(connection))
    writer = await asyncpg.connect(database_url)
    waits = []
    async with asyncio.timeout(WAIT_SECONDS):
        while not applying.done():
            started = asyncio.get_running_loop().time()
            await writer.execute(f"delete from {table} where false")  # noqa: S608 - fixed names
            waits.append(asyncio.get_running_loop().time() - started)
            await asyncio.sleep(0.01)
    with pytest.raises(asyncpg.LockNotAvailableError) as failure:
        await applying
    assert "again" in failure.value.hint
    assert max(waits) < FAST_SECONDS, "a writer waits for one attempt, not for all of them"
    await transaction.rollback()
    await apply_all(connection)
    await reader.close()
    await writer.close()


async def test_a_second_application_waits_for_the_first_and_both_succeed(connection, database_url):
    intact = await connection.fetchval(CATALOGUE)
    other = await asyncpg.connect(database_url)
    for _ in range(3):
        await asyncio.gather(apply_all(connection), apply_all(other))
    await other.close()
    assert await connection.fetchval(CATALOGUE) == intact


async def test_a_failed_first_transaction_keeps_the_second_from_being_applied(connection):
    """Psql without ON_ERROR_STOP continues after an error."""
    await connection.execute("update public.outlast_settings set value = '1' where key = 'version'")
    setup = make_setup(Settings(_env_file=None, generations_table="nowhere"), None).sql
    start, first, second = re.split(r"^begin;$", setup, flags=re.MULTILINE)
    await connection.execute(start)
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.execute("begin;" + first)
    await connection.execute("rollback")
    with pytest.raises(asyncpg.RaiseError, match="first transaction failed"):
        await connection.execute("begin;" + second)
    await connection.execute("rollback")
    assert await connection.fetchval("select value from public.outlast_settings where key = 'version'") == "1"
