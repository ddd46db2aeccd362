"""The SQL is applied to a project in use: nobody fails, and nobody waits long."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.postgres import BOOTSTRAP, MIGRATIONS
from tests.time_limits import FAST_SECONDS
from tests.upgrade.live_project import PREPARE, LiveProject
from worker.cli.init_project import make_setup
from worker.settings import Settings

FIRST = sorted((Path(__file__).parent / "migrations").glob("*.sql"))
DAMAGES = [
    'drop policy if exists "users read their own tasks" on public.outlast_tasks',
    'drop policy if exists "outlast: users read their own folder" on storage.objects',
    "drop index if exists public.outlast_files_known",
    "drop trigger if exists outlast_files_gone on public.outlast_files",
    "drop trigger if exists outlast_notify_update on public.generations",
    "drop index if exists public.outlast_unheard",
    "alter table public.outlast_deletions disable row level security",
]
"""Each makes the next application change something, and takes one lock itself."""
TIMES = len(DAMAGES)
SLOWNESS = 4
"""How many times as long as before an action may take, in addition: on a quiet machine it takes milliseconds."""


async def push_files(connection: asyncpg.Connection) -> None:
    """Apply each file in a transaction, as `supabase db push` does."""
    for file in sorted(MIGRATIONS.glob("*.sql")):
        await connection.execute(file.read_text())


async def run_init(connection: asyncpg.Connection) -> None:
    """Apply the SQL of `outlast init`, as the SQL editor does."""
    await connection.execute(make_setup(Settings(_env_file=None), None).sql)


APPLICATIONS = pytest.mark.parametrize("apply", [push_files, run_init])


@pytest.fixture
async def empty_project(postgres):
    """The DSN of a project without Outlast, with the locks of supautils."""
    name = f"live{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"create database {name}")
    connection = await asyncpg.connect(postgres.database_url(name))
    await connection.execute(BOOTSTRAP.read_text() + PREPARE)
    await connection.close()
    yield postgres.database_url(name)
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


async def apply_in_use(
    url: str, apply: Any, times: int = TIMES, *, outlast: str | None = "current", damage: bool = False
) -> None:
    """Apply the SQL repeatedly while the project is in use; assert that nobody failed or waited long."""
    async with asyncpg.create_pool(url, min_size=1, max_size=16) as pool:
        connection = await asyncpg.connect(url)
        async with LiveProject(pool).in_use(outlast=outlast) as activity:
            limit = FAST_SECONDS + SLOWNESS * max(activity.longest.values())
            for number in range(times):
                if damage:
                    await connection.execute(DAMAGES[number])
                await apply(connection)
        await connection.close()
    print(activity)  # noqa: T201 - shown when the test fails
    assert activity.errors == []
    assert {name: seconds for name, seconds in activity.longest.items() if seconds > limit} == {}


async def has_everything(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "select (select bool_and(in_place) from public.outlast_policies_wanted())"
            " and (h ->> 'triggers_current')::boolean and (h ->> 'sweep_index')::boolean"
            " and not (select bool_or(not relrowsecurity) from pg_class where relkind = 'r'"
            " and starts_with(relname, 'outlast_')) from public.outlast_health() h"
        )
    finally:
        await connection.close()


@APPLICATIONS
async def test_a_first_installation_disturbs_no_application(empty_project, apply):
    await apply_in_use(empty_project, apply, times=1, outlast=None)
    assert await has_everything(empty_project)


@APPLICATIONS
async def test_applications_with_nothing_to_change_disturb_nobody(empty_project, apply):
    await apply_once(empty_project, apply)
    await apply_in_use(empty_project, apply)


@APPLICATIONS
async def test_applications_that_each_repair_something_disturb_nobody(empty_project, apply):
    await apply_once(empty_project, apply)
    await apply_in_use(empty_project, apply, damage=True)
    assert await has_everything(empty_project)


@APPLICATIONS
async def test_an_upgrade_of_the_first_release_disturbs_nobody(empty_project, apply):
    connection = await asyncpg.connect(empty_project)
    for file in FIRST:
        await connection.execute(file.read_text())
    await connection.execute("select outlast_install()")
    await connection.close()
    await apply_in_use(empty_project, apply, times=1, outlast="first")
    assert await has_everything(empty_project)


async def apply_once(url: str, apply: Any) -> None:
    connection = await asyncpg.connect(url)
    await apply(connection)
    await connection.close()
