"""The environment that all sides share: one broker, one database, one gateway, one source, and rows to process."""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import psutil

from deploy.local.postgres import Postgres
from deploy.local.processes import Child, end_leftovers, lock_data_dir
from deploy.local.rabbitmq import RabbitMQ

POLL_SECONDS = 0.05
ROOT = Path(__file__).parents[2]
ARRIVALS = """
    create table public.arrivals (generation_id uuid primary key, at timestamptz not null default clock_timestamp());
    create function public.arrived() returns trigger language plpgsql security definer as $$ begin
      insert into public.arrivals (generation_id) values (new.id) on conflict do nothing; return new; end $$;
    create trigger arrived after update of media_status on public.generations for each row
      when (new.media_status = 'completed') execute function public.arrived();
"""
"""Records when each generation was completed, by the database's clock. Its media lists pending files before that."""


@dataclass(frozen=True)
class FileTask:
    """One file of one generation to store. Each task has a user of its own unless the scenario shares them."""

    generation_id: str
    user_id: str
    url: str


class BenchmarkEnvironment:
    """Starts all servers; `new_run` isolates each run by a new database and virtual host.

    `broker` and `postgres` are used when given, and must be running.
    """

    def __init__(self, folder: Path, broker: RabbitMQ | None = None, postgres: Postgres | None = None) -> None:
        self.folder = folder.resolve()
        self.files = self.folder / "files"
        self._own = [part for part, given in (("broker", broker), ("postgres", postgres)) if given is None]
        self.broker = broker or RabbitMQ(self.folder)
        self.postgres = postgres or Postgres(self.folder)
        self.source_url = ""
        self._rng = random.Random(1)  # noqa: S311 - reproducible, not for security
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.files.mkdir(parents=True, exist_ok=True)
        self._exit.enter_context(lock_data_dir(self.folder))
        end_leftovers(self.folder)
        try:
            for part in (getattr(self, name) for name in self._own):
                self._exit.push_async_callback(part.stop)
                await part.start()
            _, output = await self.start_server("source", str(self.files), within=self._exit)
            self.source_url = output["url"]
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    async def start_server(
        self, name: str, *arguments: str, within: contextlib.AsyncExitStack
    ) -> tuple[Child, dict[str, str]]:
        """Start a program of `servers`; return it with the JSON line that it printed when ready."""
        log = self.folder / "log" / f"{name}.log"
        log.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tests.benchmarks.servers", name, *arguments]
        child = await Child.spawn(name, argv, data_dir=self.folder, cwd=ROOT)
        within.push_async_callback(child.stop, 5)
        while not (output := log.read_text().partition("\n"))[1]:
            if not child.running:
                raise RuntimeError(f"{name} ended: {child.tail()}")
            await asyncio.sleep(POLL_SECONDS)
        return child, json.loads(output[0])

    @contextlib.asynccontextmanager
    async def new_run(self, milliseconds: int = 0):
        """Yield a BenchmarkRun with an empty database, virtual host and bucket.

        Supabase and the source get a round-trip time of `milliseconds`.
        """
        name = f"bench{uuid4().hex[:12]}"
        async with contextlib.AsyncExitStack() as stack:
            database_url = await self.postgres.create_database(name)
            rabbitmq_url = await self.broker.create_vhost(name)
            stack.push_async_callback(self.broker.delete_vhost, name)
            gateway, output = await self.start_server("gateway", database_url, str(self.folder / name), within=stack)
            sql = await asyncpg.connect(database_url)
            stack.push_async_callback(sql.close)
            await sql.execute(ARRIVALS)
            await _make_bucket(output["url"], output["key"])
            urls = [output["url"], self.source_url]
            if milliseconds:
                lines = [await self.start_server("delay_proxy", url, str(milliseconds), within=stack) for url in urls]
                urls = [line["url"] for _, line in lines]
            run = BenchmarkRun(self, sql, rabbitmq_url, urls[0], output["key"], self.folder / name, urls[1])
            run.gateway_pid = gateway.process.pid
            run.postgres_pid = psutil.Process(await sql.fetchval("select pg_backend_pid()")).ppid()
            yield run

    def uuid(self) -> str:
        """Return a new random id."""
        return str(UUID(int=self._rng.getrandbits(128), version=4))


class BenchmarkRun:
    """One run of one side: the rows to process, and the time when they were completed."""

    def __init__(
        self,
        environment: BenchmarkEnvironment,
        sql: asyncpg.Connection,
        rabbitmq_url: str,
        supabase_url: str,
        key: str,
        objects: Path,
        source_url: str,
    ) -> None:
        self.environment, self.sql, self.objects, self.source_url = environment, sql, objects, source_url
        self.rabbitmq_url, self.supabase_url, self.key = rabbitmq_url, supabase_url, key
        self.gateway_pid = self.postgres_pid = 0

    @property
    def env(self) -> Mapping[str, str]:
        """The environment variables for the programs of all sides."""
        temp = self.environment.folder / "tmp"
        temp.mkdir(exist_ok=True)
        return {
            **os.environ,
            "RABBITMQ_URL": self.rabbitmq_url,
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_SERVICE_ROLE_KEY": self.key,
            "SOURCE_ALLOWLIST": self.source_url,
            "TEMP_DIR": str(temp),
        }

    async def tasks(self, names: Sequence[str], count: int, users: int | None = None) -> list[FileTask]:
        """Insert `count` generations with one file each, names in turn, for `users` users or each for its own."""
        owners = [self.environment.uuid() for _ in range(users or count)]
        tasks = [
            FileTask(
                self.environment.uuid(), owners[at % len(owners)], f"{self.source_url}/files/{names[at % len(names)]}"
            )
            for at in range(count)
        ]
        rows = [(e.generation_id, e.user_id, json.dumps({"images": [{"url": e.url}]})) for e in tasks]
        await self.sql.executemany(
            "insert into generations (id, user_id, status, output) values ($1, $2, 'completed', $3)", rows
        )
        return tasks

    async def completed_count(self) -> int:
        """Return the number of completed generations."""
        return await self.sql.fetchval("select count(*) from arrivals")

    async def wait_for_count(self, count: int, seconds: float) -> float:
        """Wait until `count` generations are completed; return the time then (monotonic)."""
        limit = time.monotonic() + seconds
        while (now := await self.completed_count()) < count:
            if time.monotonic() > limit:
                raise RuntimeError(f"after {seconds:g} s only {now} of {count} generations are completed")
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic()


async def _make_bucket(url: str, key: str) -> None:
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
        await session.post(f"{url}/storage/v1/bucket", json={"id": "generations", "name": "generations"})
