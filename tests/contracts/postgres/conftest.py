"""The database as the worker uses it: functions are called by name, with JSON, as the service role."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4, uuid5

import asyncpg
import pytest

from deploy.local.postgres import Postgres
from schemas.files import FailedFile, ProcessedFile
from schemas.jobs import NAMESPACE, file_id_for, output_key_for

USER = "11111111-1111-4111-8111-111111111111"
PROFILE = "auto-q85-strip"
DELETE_ALL = """
delete from public.generations; delete from public.outlast_tasks; delete from public.outlast_files;
delete from public.outlast_objects; delete from public.outlast_workers;
delete from public.outlast_turns; delete from public.outlast_dead_archive; delete from net.http_request_queue;
delete from public.outlast_deletions; delete from public.outlast_late_rows; delete from public.outlast_replayed;
delete from public.outlast_attempts; delete from public.outlast_operations;
update public.outlast_bindings set installed_at = '-infinity';
update public.outlast_settings set value = null where key in ('webhook_url', 'webhook_secret');
"""


class Database:
    """A connection pool of the owner `postgres`, who is no superuser; each call sets its role."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    @asynccontextmanager
    async def role(self, name: str, user: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction with the role `name` and its JWT claims, as PostgREST does."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"set local role {name}")
            claims = json.dumps({"role": name, "sub": user})
            await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
            yield connection

    async def call(self, function: str, **arguments: Any) -> Any:
        names = ", ".join(f"{name} => ${number}" for number, name in enumerate(arguments, 1))
        async with self.role("service_role") as connection:
            return await connection.fetchval(f"select public.{function}({names})", *arguments.values())

    async def install(self, **arguments: str) -> Any:
        """Install the triggers on the user's table, as its owner does in the SQL editor."""
        names = ", ".join(f"{name} => ${number}" for number, name in enumerate(arguments, 1))
        return json.loads(await self.value(f"select public.outlast_install({names})::text", *arguments.values()))

    async def bind(self, binding: str = "generations", **fields: Any) -> None:
        """Change fields of a binding, or make it, without applying it to the table."""
        names = ", ".join(f'"{name}"' for name in fields)
        if await self.value("select exists (select from public.outlast_bindings where name = $1)", binding):
            changes = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(fields, 2))
            sql = f"update public.outlast_bindings set {changes} where name = $1"  # noqa: S608 - fixed names
        else:
            places = ", ".join(f"${number}" for number in range(2, len(fields) + 2))
            sql = f"insert into public.outlast_bindings (name, {names}) values ($1, {places})"  # noqa: S608 - fixed names
        await self.run(sql, binding, *fields.values())

    async def run(self, sql: str, *values: Any) -> None:
        await self.pool.execute(sql, *values)

    async def run_as_superuser(self, sql: str) -> None:
        await self.pool.execute(f"set role none; {sql}")

    async def row(self, sql: str, *values: Any) -> dict[str, Any]:
        row = await self.pool.fetchrow(sql, *values)
        assert row is not None, sql
        return dict(row)

    async def value(self, sql: str, *values: Any) -> Any:
        return await self.pool.fetchval(sql, *values)

    async def generation(self, **columns: Any) -> str:
        """Insert a completed row into the sample table; return its id."""
        row = {"user_id": UUID(USER), "status": "completed", "output": {"images": []}, **columns}
        positions = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        names = ", ".join(row)
        sql = f"insert into public.generations ({names}) values ({positions}) returning id::text"  # noqa: S608 - fixed names
        return str(await self.value(sql, *row.values()))

    async def media(self, generation_id: str) -> tuple[list[str] | None, str | None]:
        """Return the paths of the stored files in the generation's media, and its media_status."""
        row = await self.row("select media, media_status from public.generations where id = $1::uuid", generation_id)
        media = row["media"]
        stored = None if media is None else [entry["path"] for entry in media if entry["status"] == "stored"]
        return stored, row["media_status"]

    async def entries(self, generation_id: str) -> list[dict[str, Any]]:
        """Return the entries of the generation's media."""
        media = await self.value("select media from public.generations where id = $1::uuid", generation_id)
        assert isinstance(media, list)
        return media

    async def contents(self, table: str) -> list[tuple[Any, ...]]:
        """Return every row of a table in `public`, with the transaction that wrote it last."""
        rows = await self.pool.fetch(f'select to_jsonb(t), xmin::text from public."{table}" t order by 1')  # noqa: S608 - fixed names
        return [tuple(row) for row in rows]

    async def refs(self) -> dict[str, int]:
        rows = await self.pool.fetch("select path, refs from public.outlast_objects")
        return {row["path"]: row["refs"] for row in rows}

    async def attempt(self, job: dict[str, Any], stored: list[str], failed: list[str] | None = None) -> str:
        """Begin and finish a task, some keys stored and some failed. Returns the task's status."""
        lease, failed = uuid4(), failed or []
        begun = await self.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w1")
        assert begun["state"] == "run", begun
        finished = await self.call(
            "outlast_finish",
            p_task_id=job["task_id"],
            p_lease=lease,
            p_status=("partial" if stored else "failed") if failed else "completed",
            p_files=[stored_file(begun["generation_id"], key, job) for key in stored],
            p_failed=[failed_file(key) for key in failed],
        )
        assert finished["state"] == "recorded"
        return str(finished["status"])


def new_job(generation_id: str | None, keys: list[str], **other: Any) -> dict[str, Any]:
    """Return a job for the files `keys`; `first`: the position of the first, `all_keys`: all keys of the event."""
    first, all_keys = other.pop("first", 0), other.pop("all_keys", keys)
    identity = f"{generation_id}{other.get('source')}{keys}{first}{other.get('profile')}"
    return {
        "task_id": str(uuid5(NAMESPACE, identity)),
        "generation_id": generation_id,
        "request_id": None,
        "user_id": USER,
        "source": "supabase",
        "queue": "file_processing",
        "positions": list(range(first, first + len(keys))),
        "source_keys": keys,
        "total_files": len(all_keys),
        "output_key": output_key_for(all_keys),
        "profile": PROFILE,
        "event_at": "2026-11-01T10:00:00Z",
        "attempt": 1,
        **other,
    }


def stored_file(generation_id: str, key: str, job: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    """Return a stored file as the worker reports it; its hash is that of `content`, or of the key."""
    digest = sha256(other.pop("content", key).encode()).hexdigest()
    positions = dict(zip(job["source_keys"], job["positions"], strict=True)) if job else {}
    file = ProcessedFile(
        id=file_id_for(generation_id, key),
        position=positions.get(key, 0),
        original_filename=f"{key}.png",
        original_size=1000,
        file_size=100,
        content_type="image/jpeg",
        bucket="generations",
        path=f"{USER}/{key}.jpg",
        sha256=digest,
        width=10,
        height=20,
        source_url=f"https://v3.fal.media/{key}.png",
        source_key=key,
        source_sha256=digest,
        profile=PROFILE,
    )
    return file.model_dump(mode="json") | other


def failed_file(key: str) -> dict[str, Any]:
    url = f"https://v3.fal.media/{key}.png"
    return FailedFile(url=url, error="gone", code="source_gone", retryable=False, source_key=key).model_dump(
        mode="json"
    )


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    async def set_json_codec(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async with asyncpg.create_pool(url, min_size=1, max_size=24, init=set_json_codec) as pool:
        yield Database(pool)


@pytest.fixture(scope="session")
async def shared_db(postgres: Postgres) -> AsyncIterator[Database]:
    async with open_database(await postgres.create_database("shared")) as database:
        yield database


@pytest.fixture
async def db(shared_db: Database) -> Database:
    """An empty, migrated database that the tests share, because creating one takes longer than most tests.

    Rows of every age are swept.
    """
    await shared_db.run(DELETE_ALL)
    return shared_db


@pytest.fixture
async def own_db(database_url: str) -> AsyncIterator[Database]:
    """The test's own database, for tests that change more than rows."""
    async with open_database(database_url) as database:
        yield database


@pytest.fixture
def path_of() -> Callable[[str], str]:
    return lambda key: f"{USER}/{key}.jpg"


@pytest.fixture
def make_job() -> Callable[..., dict[str, Any]]:
    return new_job


@pytest.fixture
def make_file() -> Callable[..., dict[str, Any]]:
    return stored_file


@pytest.fixture
def make_failure() -> Callable[[str], dict[str, Any]]:
    return failed_file
