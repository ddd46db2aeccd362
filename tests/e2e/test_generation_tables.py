"""Generation tables of other shapes: key types, output types, schemas; from their trigger to the stored files."""

import asyncio
import contextlib
import json
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from deploy.local.postgres import BOOTSTRAP
from deploy.local.processes import free_port
from tests.time_limits import LONG_WAIT_SECONDS
from worker.app import run_receiver, worker_parts
from worker.cli.init_project import make_setup
from worker.observability.metrics import Metrics
from worker.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
UUID, BIGINT, TEXT = "uuid default gen_random_uuid()", "bigint generated always as identity", "text default 'r/1: ü'"
SHAPES = {
    "FAL's JSON": (
        UUID,
        "jsonb",
        "public",
        "text",
        "done",
        lambda urls: json.dumps({"images": [{"url": u} for u in urls]}),
    ),
    "JSON in text": (TEXT, "text", "app", "text", "done", lambda urls: json.dumps({"audio": {"url": urls[0]}})),
    "a text URL": (BIGINT, "text", "app", "boolean", "true", lambda urls: urls[0]),
    "an array of URLs": (TEXT, "text[]", "public", "int", "7", lambda urls: urls),
    "a JSON array of URLs": (BIGINT, "jsonb", "public", "text", "done", json.dumps),
    "json in an own schema": (UUID, "json", "My App", "text", "done", json.dumps),
}
TABLE = """
create schema if not exists "{schema}";
create table "{schema}"."Renders" (
  "Key" {key} primary key, owner text, state {state}, result {output}, made timestamptz default now());
"""


@pytest.fixture
def names():
    return {
        "generations_table": "Renders",
        "generations_id_column": "Key",
        "generations_user_column": "owner",
        "generations_status_column": "state",
        "generations_output_column": "result",
        "generations_created_column": "made",
    }


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_completed_row_gets_its_media(postgres, rabbitmq_url, source, tmp_path, monkeypatch, names, shape):
    monkeypatch.chdir(tmp_path)
    key, output, schema, state, completed, write = SHAPES[shape]
    database = f"shape{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f'create database "{database}"')
    await admin.close()
    port, stop = free_port(), asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        sql = await asyncpg.connect(postgres.database_url(database))
        stack.push_async_callback(sql.close)
        await sql.execute(BOOTSTRAP.read_text())
        await sql.execute(TABLE.format(schema=schema, key=key, state=state, output=output))
        gateway = await stack.enter_async_context(
            Gateway(database_url=postgres.database_url(database), storage_dir=tmp_path / "objects")
        )
        settings = Settings(
            _env_file=None,
            **names,
            generations_schema=schema,
            generations_completed_value=completed,
            rabbitmq_url=SecretStr(rabbitmq_url),
            supabase_url=gateway.url,
            supabase_service_role_key=SecretStr(gateway.service_role_key),
            supabase_webhook_secrets=SECRET,
            source_allowlist=source.url,
            receiver_host="127.0.0.1",
            receiver_port=port,
            codec_processes=1,
        )
        await sql.execute(make_setup(settings, f"http://127.0.0.1:{port}").sql)
        receiving = asyncio.create_task(run_receiver(settings, stop))
        parts = await stack.enter_async_context(worker_parts(settings, Metrics("test"), "shapes"))
        await parts.worker.start()
        stack.push_async_callback(parts.worker.stop, 0)
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                await asyncio.sleep(0.02)
            urls = [f"{source.url}/files/tone.wav", f"{source.url}/files/tone.mp3"]
            table = f'"{schema}"."Renders"'
            found = await sql.fetchval(f"insert into {table} (owner) values ('me') returning \"Key\"")  # noqa: S608 - names of ours
            change = f"update {table} set state = '{completed}', result = $1"  # noqa: S608 - names of ours
            await sql.execute(change, write(urls))
            while await sql.fetchval(f"select media_status is distinct from 'completed' from {table}"):  # noqa: S608 - names of ours
                await asyncio.sleep(0.02)
        media = json.loads(await sql.fetchval(f"select media::text from {table}"))  # noqa: S608 - names of ours
        wanted = 1 if shape in {"a text URL", "JSON in text"} else 2
        assert [entry["path"].partition("/")[0] for entry in media] == ["me"] * wanted
        assert await sql.fetchval("select generation_id from outlast_tasks") == str(found)
        assert all((tmp_path / "objects" / entry["bucket"] / entry["path"]).exists() for entry in media)
        # The sweep finds nothing after the webhook, and finds the generation once its task is deleted.
        sweep = json.loads(await sql.fetchval("select public.outlast_missing(p_idle_seconds => 0)::text"))
        assert sweep == []
        await sql.execute("delete from outlast_tasks; delete from outlast_files")
        await sql.execute(f"update {table} set media = null, media_status = null")  # noqa: S608 - names of ours
        (missed,) = json.loads(await sql.fetchval("select public.outlast_missing(p_idle_seconds => 0)::text"))
        assert (missed["generation_id"], missed["reason"]) == (str(found), "no_task")
        stop.set()
        await receiving
