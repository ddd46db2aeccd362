"""The SQL of `outlast init`, applied to a project that has its own tables, and the SQL that removes it."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.postgres import BOOTSTRAP, DEBIAN, Postgres
from worker.cli.init_project import make_setup, removal_sql
from worker.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_c2VjcmV0IG9mIHRoZSB2YXVsdCwgMzIgYnl0ZXMh"
VAULT = """
create schema vault;
create table vault.secrets (id uuid primary key default gen_random_uuid(), name text unique, secret text);
create view vault.decrypted_secrets as select id, name, secret as decrypted_secret from vault.secrets;
create function vault.create_secret(new_secret text, new_name text default null, new_description text default '',
  new_key_id uuid default null) returns uuid language sql as
  $$ insert into vault.secrets (name, secret) values (new_name, new_secret) returning id $$;
create function vault.update_secret(secret_id uuid, new_secret text default null, new_name text default null,
  new_description text default null, new_key_id uuid default null) returns void language sql as
  $$ update vault.secrets set secret = new_secret where id = secret_id $$;
"""
UNUSUAL_NAMES = [
    "My Renders",
    'a"b',
    "it's",
    "x; drop table public.generations; --",
    "'); drop table public.generations; --",
    "$$ $outlast$ $1 %I %s %",
    "back\\slash\\'",
    "/* open",
    "close */",
    "élan 生成 🎨",
    "select",
    "line\nbreak",
    "n" * 63,
]


@pytest.fixture
async def bare_url(postgres: Postgres) -> str:
    """The URL of a new, empty database."""
    name = f"bare{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f'create database "{name}"')
    await admin.close()
    return postgres.database_url(name)


@pytest.fixture
async def bare(bare_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A project without Outlast: Supabase's schemas, and an app's table with a row."""
    connection = await asyncpg.connect(bare_url)
    await connection.execute(BOOTSTRAP.read_text())
    await connection.execute("insert into public.generations (status) values ('pending')")
    yield connection
    await connection.close()


def settings_for(**names):
    return Settings(_env_file=None, supabase_webhook_secrets=SECRET, **names)


@pytest.fixture
def dump(bare_url: str) -> Callable[[], list[str]]:
    """A function that returns the schema as pg_dump writes it."""
    program = shutil.which("pg_dump") or max(str(path) for path in DEBIAN.glob("*/bin/pg_dump"))
    url = urlsplit(bare_url)
    address = ("-h", url.hostname, "-p", str(url.port), "-U", url.username, url.path.strip("/"))

    def run() -> list[str]:
        completed = subprocess.run(  # noqa: S603 - pg_dump
            [program, "--schema-only", *address],
            env={"PGPASSWORD": url.password},
            capture_output=True,
            text=True,
            check=True,
        )
        return [line for line in completed.stdout.splitlines() if not line.startswith("\\")]

    return run


async def test_removal_restores_the_schema_and_setup_can_be_applied_again(bare, dump):
    before = dump()
    setup = make_setup(settings_for(), "https://outlast.example.com").sql
    for _ in range(2):
        await bare.execute(setup)
        applied = dump()
        assert any("outlast_notify_update" in line for line in applied)
        await bare.execute(removal_sql(with_data=True))
        await bare.execute(removal_sql(with_data=True))  # a second removal is not an error
        assert dump() == before
    await bare.execute(setup)
    await bare.execute(setup)
    assert dump() == applied
    assert await bare.fetchval("select count(*) from public.generations") == 1


async def test_removal_without_data_keeps_tables_and_media(bare, dump):
    setup = make_setup(settings_for(), None).sql
    await bare.execute(setup)
    await bare.execute("insert into public.outlast_files (id, generation_id, source_key, bucket, path)"
                       " values (gen_random_uuid(), 'g', 'k', 'b', 'p')")  # fmt: skip
    await bare.execute("update public.generations set media = '[1]'")
    await bare.execute(removal_sql(with_data=False))
    assert [line for line in dump() if "FUNCTION public.outlast" in line or "CREATE TRIGGER" in line] == []
    policies = await bare.fetch(
        "select 1 from pg_policies where policyname ilike '%outlast%' or tablename ~ '^outlast_'"
    )
    published = await bare.fetch("select 1 from pg_publication_tables where pubname = 'supabase_realtime'")
    assert policies == published == []
    await bare.execute("insert into public.generations (status, output) values ('completed', '{}')")
    await bare.execute(setup)
    assert await bare.fetchval("select count(*) from public.outlast_files") == 1
    assert await bare.fetchval("select count(*) from public.generations where media = '[1]'") == 1


async def test_removal_keeps_existing_columns_and_refuses_with_dependent_objects(bare):
    await bare.execute("alter table public.generations add column media jsonb")
    await bare.execute(make_setup(settings_for(), None).sql)
    await bare.execute("create view public.mine as select path from public.outlast_files")
    with pytest.raises(asyncpg.DependentObjectsStillExistError, match="outlast_files"):
        await bare.execute(removal_sql(with_data=True))
    await bare.execute("rollback")
    assert await bare.fetchval("select public.outlast_health() is not null")
    await bare.execute("drop view public.mine")
    await bare.execute(removal_sql(with_data=True))
    columns = await bare.fetch("select attname from pg_attribute where attrelid = 'public.generations'::regclass")
    assert {"media", "media_status"} & {row["attname"] for row in columns} == {"media"}


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
async def test_unusual_names_are_quoted(bare, name):
    quoted = '"' + name.replace('"', '""') + '"'
    await bare.execute(
        f"create schema app; create table app.{quoted} (k bigint primary key, {quoted} text, out text[])"
    )
    await bare.execute(f"alter table app.{quoted} add made timestamptz default now()")
    settings = settings_for(
        generations_schema="app",
        generations_table=name,
        generations_id_column="k",
        generations_status_column=name,
        generations_output_column="out",
        generations_created_column="made",
        generations_completed_value=name,
        storage_bucket=name,
    )
    await bare.execute(make_setup(settings, "https://x.example/").document())
    health = json.loads(await bare.fetchval("select public.outlast_health()"))
    assert (health["generations"]["table"], health["generations"]["completed"], health["bucket"]) == (name, name, name)
    assert (health["triggers_current"], health["sweep_index"], health["storage_policy"]) == (True, True, True)
    assert health["webhook_url"] == "https://x.example/webhooks/supabase"
    assert await bare.fetchval("select public from storage.buckets where id = $1", name) is False
    await bare.execute(f"insert into app.{quoted} (k, {quoted}, out) values (1, $1, '{{x}}')", name)  # noqa: S608 - quoted
    body = json.loads(bytes(await bare.fetchval("select body from net.http_request_queue")))
    assert body["outlast"]["outputs"] == [{"field": "out", "value": ["x"]}]
    assert await bare.fetchval("select count(*) from public.generations") == 1
    columns = await bare.fetchval("select count(*) from pg_attribute where attrelid = 'public.generations'::regclass"
                                  " and attname ~ '^media'")  # fmt: skip
    assert columns == 0, "the table with the default name is not changed"


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 64, "é" * 32])
def test_an_invalid_postgresql_name_is_refused(name):
    settings = settings_for().model_copy(update={"generations_table": name})
    with pytest.raises(ValueError, match=r"not a valid name|NUL"):
        make_setup(settings, None)


async def test_a_wrong_name_changes_nothing(bare, dump):
    before = dump()
    with pytest.raises(asyncpg.UndefinedTableError, match="nowhere"):
        await bare.execute(make_setup(settings_for(generations_table="nowhere"), None).sql)
    await bare.execute("rollback")
    with pytest.raises(asyncpg.UndefinedColumnError, match="status_column = state"):
        await bare.execute(make_setup(settings_for(generations_status_column="state"), None).sql)
    await bare.execute("rollback")
    assert dump() == before


async def test_the_secret_is_stored_and_rotated_in_vault(bare):
    await bare.execute(VAULT)
    await bare.execute(make_setup(settings_for(), None).sql)
    health = json.loads(await bare.fetchval("select public.outlast_health()"))
    assert (health["webhook_secret_in"], health["trigger_signed"]) == ("vault", True)
    assert await bare.fetchval("select value from public.outlast_settings where key = 'webhook_secret'") is None
    await bare.execute(make_setup(Settings(_env_file=None, supabase_webhook_secrets=OTHER), None).sql)
    assert await bare.fetch("select secret from vault.secrets") == [(OTHER,)]
    await bare.execute(removal_sql(with_data=False))
    assert await bare.fetch("select secret from vault.secrets") == []


async def test_if_vault_refuses_the_secret_is_stored_in_the_settings(bare):
    await bare.execute(VAULT)
    await bare.execute("alter table vault.secrets add constraint full_up check (false)")
    await bare.execute(make_setup(settings_for(), None).sql)
    assert await bare.fetchval("select value from public.outlast_settings where key = 'webhook_secret'") == SECRET
    with pytest.raises(asyncpg.InvalidParameterValueError, match="whsec_"):
        await bare.execute("select public.outlast_set_webhook_secret('plain')")


async def test_setup_without_an_address_keeps_the_current_one(bare):
    await bare.execute(make_setup(settings_for(), "https://one.example").sql)
    await bare.execute(make_setup(settings_for(), None).sql)
    kept = await bare.fetchval("select value from public.outlast_settings where key = 'webhook_url'")
    assert kept == "https://one.example/webhooks/supabase"
