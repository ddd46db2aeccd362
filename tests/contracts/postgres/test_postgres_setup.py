"""What `outlast init` prints, applied to a project that has tables of its own; and what takes it out again."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.postgres import BOOTSTRAP, DEBIAN, Postgres
from worker.cli.init_project import prepare, removal
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
HOSTILE = [
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
async def bare(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """A project without Outlast: Supabase's surroundings, an app's table with a row, a view on it."""
    name = f"bare{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f'create database "{name}"')
    await admin.close()
    connection = await asyncpg.connect(postgres.database_url(name))
    await connection.execute(BOOTSTRAP.read_text())
    await connection.execute("insert into public.generations (status) values ('pending')")
    yield connection
    await connection.close()


def named(**names):
    return Settings(_env_file=None, supabase_webhook_secrets=SECRET, **names)


def dump(connection) -> list[str]:
    """The schema as pg_dump writes it."""
    found = shutil.which("pg_dump") or max(str(path) for path in DEBIAN.glob("*/bin/pg_dump"))
    host, port = connection._addr
    parameters = connection._params
    done = subprocess.run(  # noqa: S603 - a program of PostgreSQL's
        [found, "--schema-only", "-h", host, "-p", str(port), "-U", parameters.user, parameters.database],
        env={"PGPASSWORD": parameters.password},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("\\")]


async def test_apply_remove_apply_again_and_the_schema_is_as_before(bare):
    before = dump(bare)
    setup = prepare(named(), "https://outlast.example.com").sql
    for _ in range(2):
        await bare.execute(setup)
        applied = dump(bare)
        assert any("outlast_notify_update" in line for line in applied)
        await bare.execute(removal(with_data=True))
        await bare.execute(removal(with_data=True))  # nothing is left to remove, and that is no error
        assert dump(bare) == before
    await bare.execute(setup)
    await bare.execute(setup)
    assert dump(bare) == applied
    assert await bare.fetchval("select count(*) from public.generations") == 1


async def test_removal_keeps_what_is_stored_unless_told(bare):
    setup = prepare(named(), None).sql
    await bare.execute(setup)
    await bare.execute("insert into public.outlast_files (id, generation_id, source_key, bucket, path)"
                       " values (gen_random_uuid(), 'g', 'k', 'b', 'p')")  # fmt: skip
    await bare.execute("update public.generations set media = '[1]'")
    await bare.execute(removal(with_data=False))
    assert [line for line in dump(bare) if "FUNCTION public.outlast" in line or "TRIGGER" in line] == []
    policies = await bare.fetch(
        "select 1 from pg_policies where policyname ilike '%outlast%' or tablename ~ '^outlast_'"
    )
    published = await bare.fetch("select 1 from pg_publication_tables where pubname = 'supabase_realtime'")
    assert policies == published == []
    await bare.execute("insert into public.generations (status, output) values ('completed', '{}')")
    await bare.execute(setup)
    assert await bare.fetchval("select count(*) from public.outlast_files") == 1
    assert await bare.fetchval("select count(*) from public.generations where media = '[1]'") == 1


async def test_removal_leaves_what_was_there_before_or_stands_upon_it(bare):
    await bare.execute("alter table public.generations add column media jsonb")
    await bare.execute(prepare(named(), None).sql)
    await bare.execute("create view public.mine as select path from public.outlast_files")
    with pytest.raises(asyncpg.DependentObjectsStillExistError, match="outlast_files"):
        await bare.execute(removal(with_data=True))
    await bare.execute("rollback")
    assert await bare.fetchval("select public.outlast_health() is not null")
    await bare.execute("drop view public.mine")
    await bare.execute(removal(with_data=True))
    columns = await bare.fetch("select attname from pg_attribute where attrelid = 'public.generations'::regclass")
    assert {"media", "media_status"} & {row["attname"] for row in columns} == {"media"}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_names(bare, name):
    quoted = '"' + name.replace('"', '""') + '"'
    await bare.execute(
        f"create schema app; create table app.{quoted} (k bigint primary key, {quoted} text, out text[])"
    )
    await bare.execute(f"alter table app.{quoted} add made timestamptz default now()")
    settings = named(
        generations_schema="app",
        generations_table=name,
        generations_id_column="k",
        generations_status_column=name,
        generations_output_column="out",
        generations_created_column="made",
        generations_completed_value=name,
        storage_bucket=name,
    )
    await bare.execute(prepare(settings, "https://x.example/").document())
    health = json.loads(await bare.fetchval("select public.outlast_health()"))
    assert (health["generations"]["table"], health["generations"]["completed"], health["bucket"]) == (name, name, name)
    assert (health["triggers_current"], health["sweep_index"], health["storage_policy"]) == (True, True, True)
    assert health["webhook_url"] == "https://x.example/webhooks/supabase"
    assert await bare.fetchval("select public from storage.buckets where id = $1", name) is False
    await bare.execute(f"insert into app.{quoted} (k, {quoted}, out) values (1, $1, '{{x}}')", name)  # noqa: S608 - quoted
    body = json.loads(bytes(await bare.fetchval("select body from net.http_request_queue")))
    assert (body["schema"], body["table"], body["record"][name]) == ("app", name, name)
    assert await bare.fetchval("select count(*) from public.generations") == 1
    columns = await bare.fetchval("select count(*) from pg_attribute where attrelid = 'public.generations'::regclass"
                                  " and attname ~ '^media'")  # fmt: skip
    assert columns == 0, "a table of the default's name is nobody's business"


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 64, "é" * 32])
def test_what_postgresql_cannot_have_as_a_name_is_refused(name):
    settings = named().model_copy(update={"generations_table": name})
    with pytest.raises(ValueError, match=r"not a valid name|NUL"):
        prepare(settings, None)


async def test_a_wrong_name_changes_nothing_at_all(bare):
    before = dump(bare)
    with pytest.raises(asyncpg.UndefinedTableError, match="nowhere"):
        await bare.execute(prepare(named(generations_table="nowhere"), None).sql)
    await bare.execute("rollback")
    with pytest.raises(asyncpg.UndefinedColumnError, match="status_column = state"):
        await bare.execute(prepare(named(generations_status_column="state"), None).sql)
    await bare.execute("rollback")
    assert dump(bare) == before


async def test_the_secret_is_kept_in_vault_and_rotated_there(bare):
    await bare.execute(VAULT)
    await bare.execute(prepare(named(), None).sql)
    health = json.loads(await bare.fetchval("select public.outlast_health()"))
    assert (health["webhook_secret_in"], health["trigger_signed"]) == ("vault", True)
    assert await bare.fetchval("select value from public.outlast_settings where key = 'webhook_secret'") is None
    await bare.execute(prepare(Settings(_env_file=None, supabase_webhook_secrets=OTHER), None).sql)
    assert await bare.fetch("select secret from vault.secrets") == [(OTHER,)]
    await bare.execute(removal(with_data=False))
    assert await bare.fetch("select secret from vault.secrets") == []


async def test_a_vault_that_refuses_leaves_the_secret_in_the_settings(bare):
    await bare.execute(VAULT)
    await bare.execute("alter table vault.secrets add constraint full_up check (false)")
    await bare.execute(prepare(named(), None).sql)
    assert await bare.fetchval("select value from public.outlast_settings where key = 'webhook_secret'") == SECRET
    with pytest.raises(asyncpg.InvalidParameterValueError, match="whsec_"):
        await bare.execute("select public.outlast_set_webhook_secret('plain')")


async def test_setting_up_again_without_an_address_keeps_the_one_there_is(bare):
    await bare.execute(prepare(named(), "https://one.example").sql)
    await bare.execute(prepare(named(), None).sql)
    kept = await bare.fetchval("select value from public.outlast_settings where key = 'webhook_url'")
    assert kept == "https://one.example/webhooks/supabase"
