"""All real processes of a chaos run, each of which can be killed, restarted or disconnected."""

import asyncio
import contextlib
import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aio_pika
import aiohttp
import asyncpg
from pydantic import SecretStr

from deploy.local.gateway import Gateway
from deploy.local.postgres import Postgres
from deploy.local.processes import end_leftovers, lock_data_dir, run_all
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.samples import make_broken
from deploy.local.saved_state import saved_secrets
from handlers.settings import FAL_SOURCES
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.faulty_source import FaultySource
from tests.chaos.fleet import Fleet
from tests.chaos.lossy_webhooks import LossyWebhooks
from tests.chaos.tcp_proxy import TcpProxy
from worker.cli.init_project import make_setup
from worker.settings import Settings


@dataclass(frozen=True)
class FaultRates:
    """Constant fault rates as shares: webhooks lost and duplicated; uploads, database calls and batches that fail."""

    lost: float = 0.0
    twice: float = 0.0
    uploads: float = 0.0
    calls: float = 0.0
    batches: float = 0.0


class ChaosEnvironment:
    """`async with ChaosEnvironment(...)` runs everything. Proxies: `to_broker`, `to_supabase`, `to_database`."""

    def __init__(self, folder: Path, samples: Path, rates: FaultRates, *, seed: int = 0, workers: int = 2) -> None:
        self.folder = folder.resolve()
        self.source = FaultySource(samples)
        self.broker = RabbitMQ(self.folder)
        self.postgres = Postgres(self.folder)
        self.to_broker, self.to_supabase, self.to_database = TcpProxy(), TcpProxy(), TcpProxy()
        self._rates = rates
        self._seed = seed
        self._wanted = workers
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        self._exit.enter_context(lock_data_dir(self.folder))
        end_leftovers(self.folder)
        self._secrets = saved_secrets(self.folder)
        self._exit.push_async_callback(self.broker.stop)
        self._exit.push_async_callback(self.postgres.stop)
        await run_all(self._start_broker(), self._start_supabase(), self._start_source())
        rates = self._rates
        self.fault_proxy = FaultProxy(
            self.gateway.url, self._seed, uploads=rates.uploads, calls=rates.calls, batches=rates.batches
        )
        await self._start_part(self.fault_proxy)
        self.to_supabase.target = self.fault_proxy.port
        await self._start_part(self.to_supabase)
        self.fleet = Fleet(self.folder, self._environment())
        self._exit.push_async_callback(self.fleet.stop)
        receiver = f"http://127.0.0.1:{self.fleet.receiver_port}/webhooks/supabase"
        self.lossy_webhooks = LossyWebhooks(receiver, self._seed, dropped=rates.lost, twice=rates.twice)
        await self._start_part(self.lossy_webhooks)
        await self._configure_webhooks()
        await run_all(
            self.fleet.start_receiver(wait=True), *(self.fleet.start_worker(wait=True) for _ in range(self._wanted))
        )

    async def _start_part(self, part) -> None:
        self._exit.push_async_callback(part.stop)
        await part.start()

    async def _start_broker(self) -> None:
        await self.broker.start()
        self.to_broker.target = _port(self.broker.url)
        await self._start_part(self.to_broker)

    async def _start_source(self) -> None:
        await asyncio.to_thread(make_broken, self.source.folder)
        await self._start_part(self.source)

    async def _start_supabase(self) -> None:
        await self.postgres.start()
        url = await self.postgres.create_database("outlast")
        await self._start_part(self.to_database)
        self.to_database.target = _port(self.postgres.url)
        self.gateway = Gateway(
            database_url=_through(url, self.to_database),
            storage_dir=self.folder / "storage",
            jwt_secret=self._secrets["jwt_secret"],
        )
        await self._start_part(self.gateway)
        async with self.app() as session:
            await session.post(f"{self.gateway.url}/storage/v1/bucket", json={"name": "generations"})

    async def _configure_webhooks(self) -> None:
        async with self.sql() as sql:
            await sql.executemany(
                "insert into public.outlast_settings (key, value) values ($1, $2) "
                "on conflict (key) do update set value = excluded.value",
                [("webhook_url", self.lossy_webhooks.url), ("webhook_secret", self._secrets["webhook_secret"])],
            )

    def app(self) -> aiohttp.ClientSession:
        """Return an HTTP session with the service role key, for the gateway without proxies."""
        key = self.gateway.service_role_key
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10))

    @contextlib.asynccontextmanager
    async def sql(self):
        """Connect to the database directly, without a proxy."""
        connection = await asyncpg.connect(self.postgres.database_url("outlast"), timeout=5)
        try:
            yield connection
        finally:
            connection.terminate()

    async def restart_broker(self, *, kill: bool) -> None:
        """Restart the broker; with `kill` its processes are killed first."""
        if kill:
            await self.broker.kill()
        await self.broker.stop()
        await self.broker.start()

    async def restart_database(self, *, kill: bool) -> None:
        """Restart PostgreSQL; with `kill` its postmaster is killed first."""
        if kill:
            record = json.loads((self.folder / "run" / "postgres.json").read_text())
            os.kill(record["pid"], signal.SIGKILL)
        await self.postgres.stop()
        await self.postgres.start()
        # PostgreSQL's port changes with each start; the proxy's does not.
        self.to_database.target = _port(self.postgres.url)

    async def delete_queue(self, name: str) -> None:
        """Delete a queue, whether or not it has messages or consumers."""
        async with await aio_pika.connect(self.broker.url, timeout=10) as connection:
            await (await connection.channel()).queue_delete(name)

    async def apply_sql(self) -> None:
        """Apply the SQL of `outlast init`."""
        secrets = (SecretStr(self._secrets["webhook_secret"]),)
        async with self.sql() as sql:
            await sql.execute(make_setup(Settings(_env_file=None, supabase_webhook_secrets=secrets), None).sql)

    async def queue_names(self) -> set[str]:
        """Return the names of all queues, from RabbitMQ's management API."""
        user, password = re.search(r"//(.+?):(.+?)@", self.broker.url).groups()
        headers = {"Authorization": aiohttp.encode_basic_auth(user, password)}
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
            session.get(f"{self.broker.management_url}/api/queues") as response,
        ):
            return {queue["name"] for queue in await response.json()}

    def _environment(self) -> dict[str, str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {
            "RABBITMQ_URL": _through(self.broker.url, self.to_broker),
            "SUPABASE_URL": f"http://127.0.0.1:{self.to_supabase.port}",
            "SUPABASE_SERVICE_ROLE_KEY": self.gateway.service_role_key,
            "SUPABASE_WEBHOOK_SECRETS": self._secrets["webhook_secret"],
            "SOURCE_ALLOWLIST": f"{' '.join(FAL_SOURCES)} {self.source.url}",
            "IMMUTABLE_SOURCES": self.source.url,
            "RECEIVER_HOST": "127.0.0.1",
            "METRICS_HOST": "127.0.0.1",
            "TEMP_DIR": str(self.folder / "tmp"),
        }


def _port(url: str) -> int:
    return int(re.search(r":(\d+)/", url)[1])


def _through(url: str, wire: TcpProxy) -> str:
    """Return the URL with the proxy's port."""
    return re.sub(r":\d+/", f":{wire.port}/", url)
