"""Migrations and `outlast_install`: applied again, applied to other tables, and their error messages."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local.postgres import MIGRATIONS, Postgres, apply_migrations
from worker.cli import migrations

OTHER_TABLE = """
create schema app;
create type app.state as enum ('new', 'finished');
create table app."My Renders" (
  "key" bigint primary key generated always as identity, owner bigint, state app.state, result {type}, job varchar(20),
  made timestamp default now()
);
update public.outlast_bindings set id_column = 'key', owner_column = 'owner', status_column = 'state',
  output_columns = '{{result}}', request_column = 'job', created_column = 'made', completed_values = '{{finished}}';
"""


async def test_migrations_applied_twice_keep_data_and_settings(
    own_db: Any, database_url: str, make_job: Callable[..., Any], path_of: Any
) -> None:
    generation = await own_db.generation()
    await own_db.attempt(make_job(generation, ["a"]), stored=["a"])
    await own_db.run("update public.outlast_settings set value = 'http://x' where key = 'webhook_url'")
    tables = ("outlast_tasks", "outlast_files", "outlast_objects", "outlast_settings", "generations")
    before = [[row for row, _ in await own_db.contents(table)] for table in tables]
    await apply_migrations(database_url)
    assert [[row for row, _ in await own_db.contents(table)] for table in tables] == before
    assert await own_db.media(generation) == ([path_of("a")], "completed")


async def test_an_existing_database_is_migrated_again_and_keeps_its_rows(postgres: Postgres, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop function public.outlast_health(); insert into public.generations default values")
    assert await postgres.create_database(database_url.partition("?")[0].rpartition("/")[2]) == database_url
    assert await connection.fetchval("select (public.outlast_health() -> 'generations' ->> 'found')::boolean")
    assert await connection.fetchval("select count(*) from public.generations") == 1
    await connection.close()


async def test_health_reports_a_complete_installation_and_each_defect(own_db: Any) -> None:
    health = await own_db.call("outlast_health")
    (binding,) = health.pop("bindings")
    assert binding.items() <= health.items()
    assert health.pop("now")
    assert set(health.pop("functions")) == migrations.functions()
    assert health.pop("tables") == dict.fromkeys(migrations.tables(), True)
    assert health == {
        "binding": "generations",
        "public_bucket": False,
        "version": migrations.newest_version(),
        "trigger": True,
        "triggers_current": True,
        "deletion_triggers": True,
        "trigger_signed": False,
        "webhook_url": None,
        "webhook_secret_digest": None,
        "webhook_secret_in": None,
        "generations": {
            "schema": "public",
            "table": "generations",
            "found": True,
            "columns": {
                "id": "id",
                "user": "user_id",
                "status": "status",
                "output": "output",
                "request": "request_id",
                "created": "created_at",
            },
            "absent": [],
            "completed": "completed",
        },
        "media_columns": True,
        "sweep_index": True,
        "anon_can_execute": False,
        "pg_net": True,
        "bucket": "generations",
        "storage_policy": True,
        "realtime": True,
    }
    await own_db.value("select public.outlast_set_webhook_secret('whsec_c2VjcmV0')")
    await own_db.run("alter table public.generations disable trigger outlast_notify_update")
    await own_db.run("alter table public.generations drop column media, drop column user_id cascade")
    await own_db.run("alter table public.outlast_files disable row level security")
    await own_db.run("alter publication supabase_realtime drop table public.outlast_files")
    await own_db.run("update public.outlast_settings set value = 'other' where key = 'bucket'")
    await own_db.run("revoke execute on function public.outlast_known(text, text, text) from service_role")
    await own_db.run_as_superuser("drop schema net cascade")
    health = await own_db.call("outlast_health")
    assert (health["trigger_signed"], health["trigger"], health["media_columns"]) == (True, False, False)
    assert (health["tables"]["outlast_files"], health["pg_net"]) == (False, False)
    assert (health["realtime"], health["storage_policy"]) == (False, False)
    assert health["webhook_secret_in"] == "settings"
    assert health["webhook_secret_digest"] == sha256(b"whsec_c2VjcmV0").hexdigest()[:16]
    assert health["generations"]["absent"] == ["user"]
    assert set(health["functions"]) == migrations.functions() - {"outlast_known"}


async def test_health_reports_outdated_triggers(own_db: Any) -> None:
    await own_db.run("alter table public.generations rename column id to key")
    await own_db.bind(id_column="key")
    assert (await own_db.call("outlast_health"))["triggers_current"] is False
    assert (await own_db.install())["triggers_current"] is True
    await own_db.run("drop trigger outlast_notify_insert on public.generations")
    assert (await own_db.call("outlast_health"))["triggers_current"] is False


@pytest.mark.parametrize("output_type", ["text", "json", "jsonb"])
async def test_a_table_with_other_names_and_types_can_be_used(
    own_db: Any, make_job: Callable[..., Any], path_of: Any, output_type: str
) -> None:
    await own_db.run(OTHER_TABLE.format(type=output_type))
    health = await own_db.install(p_schema="app", p_table="My Renders")
    assert (health["trigger"], health["media_columns"]) == (True, True)
    assert await own_db.value("select count(*) from pg_trigger where tgrelid = 'public.generations'::regclass") == 0

    row = """insert into app."My Renders" (owner, state, result, job) values (7, 'finished', '{"a": 1}', 'r-9')"""
    key = await own_db.value(row + ' returning "key"')
    missing = await own_db.call("outlast_missing")
    assert [(found["generation_id"], found["user_id"], found["reason"]) for found in missing] == [
        (str(key), "7", "no_task")
    ]
    job = make_job(None, ["a"], source="fal", request_id="r-9", user_id=None)
    assert await own_db.attempt(job, stored=["a"]) == "completed"
    task = await own_db.row("select generation_id, user_id from public.outlast_tasks")
    assert task == {"generation_id": str(key), "user_id": "7"}
    done = await own_db.row('select media, media_status from app."My Renders"')
    assert [element["path"] for element in done["media"]] == [path_of("a")]
    assert done["media_status"] == "completed"
    assert await own_db.call("outlast_missing") == []
    # An id that does not fit the column's type belongs to no row.
    assert await own_db.attempt(make_job("no number", ["b"]), stored=["b"]) == "completed"
    await own_db.run("""update app."My Renders" set result = '{"a": 2}'""")


async def test_a_table_without_user_and_request_id_columns_can_be_used(
    own_db: Any, make_job: Callable[..., Any]
) -> None:
    await own_db.run("alter table public.generations drop column user_id cascade, drop column request_id")
    await own_db.install()
    generation = await own_db.value(
        "insert into public.generations (status, output) values ('completed', '{}') returning id::text"
    )
    assert [found["user_id"] for found in await own_db.call("outlast_missing")] == [None]
    assert await own_db.attempt(make_job(generation, ["a"], user_id=None), stored=["a"]) == "completed"
    assert (await own_db.media(generation))[1] == "completed"


async def test_install_names_the_missing_table_or_column(own_db: Any, database_url: str) -> None:
    with pytest.raises(asyncpg.UndefinedTableError, match="nowhere"):
        await own_db.install(p_table="nowhere")
    await own_db.run("alter table public.generations rename column status to state")
    with pytest.raises(asyncpg.UndefinedColumnError, match="status_column = status"):
        await own_db.install()
    await apply_migrations(database_url)  # warns, and applies the rest
    await own_db.run("alter table public.generations rename column state to status")
    await own_db.run("alter table public.generations drop column media, add column media text")
    with pytest.raises(asyncpg.DatatypeMismatchError, match="not jsonb"):
        await own_db.install()


async def test_migrations_apply_without_a_table_of_generations(
    own_db: Any, database_url: str, make_job: Callable[..., Any]
) -> None:
    await own_db.bind(table="later")
    await apply_migrations(database_url)
    assert await own_db.attempt(make_job("g", ["a"]), stored=["a"]) == "completed"
    job = make_job(None, ["a"], source="fal", request_id="r")
    assert await own_db.call("outlast_begin", p_job=job, p_lease=job["task_id"], p_worker="w") == {
        "state": "no_generation",
        "shared": False,
    }
    assert await own_db.call("outlast_missing") == []
    health = await own_db.call("outlast_health")
    assert (health["trigger"], health["media_columns"]) == (False, False)


async def test_realtime_publishes_tasks_and_files(own_db: Any) -> None:
    rows = await own_db.pool.fetch("select tablename from pg_publication_tables where pubname = 'supabase_realtime'")
    assert sorted(row["tablename"] for row in rows) == ["outlast_files", "outlast_tasks"]


def test_migrations_are_numbered_and_at_most_200_lines() -> None:
    files = sorted(MIGRATIONS.glob("*.sql"))
    assert files
    for file in files:
        assert Path(file).name[:14].isdigit()
        assert len(file.read_text().splitlines()) <= 200


async def test_install_is_not_callable_over_rest(own_db):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await own_db.call("outlast_install")
