"""The local stack as a whole: broker, database, gateway, sample source, receiver, workers - started, and all ended.

With RABBITMQ_URL or SUPABASE_URL in the environment that part is not started, and the given one is used.
"""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import aiohttp
import asyncpg

from deploy.local.endpoints import Access, Endpoints
from deploy.local.gateway import Gateway
from deploy.local.memory import remembered_port, remembered_secrets
from deploy.local.postgres import Postgres
from deploy.local.processes import Child, StackError, claim, clean_up, ended, free_port, together
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.samples import Sample, make_samples
from deploy.local.source import Source
from handlers.settings import FAL_SOURCES

READY_SECONDS: Final = 60.0
DATABASE: Final = "outlast"


class Stack:
    """`async with Stack(...)`: everything runs inside, nothing is left outside. `say` gets each step as text.

    `program` starts Outlast, as an argument list to which the command is appended; by default this very installation.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        port: int | None = None,
        say: Callable[[str], None] = lambda _: None,
        program: Sequence[str] = (sys.executable, "-m", "worker"),
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.samples: list[Sample] = []
        self.source = Source(self.data_dir / "samples")
        self.workers: list[Child] = []
        self._wanted = workers
        self._port = port
        self._say = say
        self._program = tuple(program)
        self._exit = contextlib.AsyncExitStack()
        self._numbers = itertools.count(1)
        self._metrics_urls: dict[str, str] = {}
        self._secrets: dict[str, str] = {}
        self._rabbitmq_url = os.environ.get("RABBITMQ_URL", "")
        self._supabase = Access(os.environ.get("SUPABASE_URL", ""), os.environ.get("SUPABASE_SERVICE_ROLE_KEY", ""))
        self._database_url = ""
        self.receiver_url = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            self._say("stopping")
        finally:  # also when there is no terminal any more to say it on
            await self._exit.aclose()

    async def _start(self) -> None:
        self._exit.enter_context(claim(self.data_dir))
        for name in clean_up(self.data_dir):
            self._say(f"ended a {name} that an earlier run left behind")
        self._secrets = remembered_secrets(self.data_dir)
        self._say("starting RabbitMQ, PostgreSQL and the sample source")
        await together(self._start_broker(), self._start_supabase(), self._start_source())
        self._say("starting the receiver and the workers")
        await self._start_receiver()
        await together(*(self.start_worker() for _ in range(self._wanted)))

    async def _start_broker(self) -> None:
        if self._rabbitmq_url:
            return
        broker = RabbitMQ(self.data_dir)
        self._exit.push_async_callback(broker.stop)
        await broker.start()
        self._rabbitmq_url = broker.url

    async def _start_supabase(self) -> None:
        if self._supabase.url:
            return
        postgres = Postgres(self.data_dir)
        self._exit.push_async_callback(postgres.stop)
        await postgres.start()
        self._database_url = await postgres.create_database(DATABASE)
        gateway = Gateway(
            database_url=self._database_url,
            storage_dir=self.data_dir / "storage",
            port=remembered_port(self.data_dir, "gateway"),
            jwt_secret=self._secrets["jwt_secret"],
        )
        self._exit.push_async_callback(gateway.stop)
        await gateway.start()
        self._supabase = Access(gateway.url, gateway.service_role_key, gateway.anon_key, gateway.jwt_secret)
        await self._create_bucket()

    async def _create_bucket(self) -> None:
        url, key = self._supabase.url, self._supabase.service_role_key
        bucket = os.environ.get("STORAGE_BUCKET") or "generations"
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            body = {"id": bucket, "name": bucket, "public": False}
            async with session.post(f"{url}/storage/v1/bucket", json=body) as response:
                said = await response.text()
                if response.status >= 400 and "Duplicate" not in said:  # noqa: PLR2004 - any HTTP error
                    raise StackError(f"the bucket {bucket!r} cannot be created: {said}")

    async def _start_source(self) -> None:
        self.samples = await asyncio.to_thread(make_samples, self.data_dir / "samples")
        self.source = Source(self.data_dir / "samples", port=remembered_port(self.data_dir, "source"))
        self._exit.push_async_callback(self.source.stop)
        await self.source.start()

    async def _start_receiver(self) -> None:
        port = self._port or remembered_port(self.data_dir, "receiver", 8080)
        self.receiver_url = f"http://127.0.0.1:{port}"
        if self._database_url:
            await self._aim_webhook()
        child = await self._spawn("receiver", ["receiver"], {"RECEIVER_PORT": str(port)})
        await child.answers(f"{self.receiver_url}/readyz", READY_SECONDS)

    async def _aim_webhook(self) -> None:
        """Tell the trigger in the database where to send and what to sign with, as `outlast init` has users do."""
        connection = await asyncpg.connect(self._database_url)
        try:
            await connection.executemany(
                "insert into public.outlast_settings (key, value) values ($1, $2) "
                "on conflict (key) do update set value = excluded.value",
                [
                    ("webhook_url", f"{self.receiver_url}/webhooks/supabase"),
                    ("webhook_secret", self._secrets["webhook_secret"]),
                ],
            )
        finally:
            await connection.close()

    @property
    def sends_webhooks(self) -> bool:
        """Whether the database is ours, so that its trigger reaches the receiver."""
        return bool(self._database_url)

    async def start_worker(self) -> Child:
        """Start one more worker and wait until it is ready."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        child = await self._spawn(f"worker-{next(self._numbers)}", ["worker"], {"METRICS_PORT": str(port)})
        self.workers.append(child)
        self._metrics_urls[child.name] = f"{url}/metrics"
        await child.answers(f"{url}/readyz", READY_SECONDS)
        return child

    async def watch(self) -> None:
        """Put a new worker in the place of each that died; raise StackError when anything else ended by itself."""
        for child in [worker for worker in self.workers if not worker.running]:
            self._say(f"{child.name} ended with {child.process.returncode}; starting another")
            self.workers.remove(child)
            await child.stop()  # of its group, something may still run
            await self.start_worker()
        workers = {worker.name for worker in self.workers}
        for name, tail in ended(self.data_dir).items():
            if name not in workers:  # one that died only now has its turn next time
                raise StackError(f"{name} ended by itself. Its log ends:\n{tail}")

    async def _spawn(self, name: str, arguments: list[str], more: dict[str, str]) -> Child:
        argv = [*self._program, *arguments]
        env = {**os.environ, **self._environment(), **more}
        # In a folder of the stack's: a .env of the caller's, perhaps with a real project in it, is not for these.
        child = await Child.spawn(name, argv, data_dir=self.data_dir, env=env, cwd=self.data_dir)
        self._exit.push_async_callback(child.stop, 40)
        return child

    def _environment(self) -> dict[str, str]:
        """What receiver and workers are told; everything else they take from our own environment."""
        given = os.environ
        temp = Path(given.get("TEMP_DIR") or self.data_dir / "tmp").absolute()
        temp.mkdir(parents=True, exist_ok=True)
        own_secret, more_secrets = self._secrets["webhook_secret"], given.get("SUPABASE_WEBHOOK_SECRETS", "")
        return {
            "RABBITMQ_URL": self._rabbitmq_url,
            "SUPABASE_URL": self._supabase.url,
            "SUPABASE_SERVICE_ROLE_KEY": self._supabase.service_role_key,
            "SUPABASE_WEBHOOK_SECRETS": f"{own_secret} {more_secrets}",
            "SOURCE_ALLOWLIST": f"{given.get('SOURCE_ALLOWLIST') or ' '.join(FAL_SOURCES)} {self.source.url}",
            "FAL_JWKS_URL": given.get("FAL_JWKS_URL") or f"{self.source.url}/.well-known/jwks.json",
            "API_TOKEN": self._secrets["api_token"],
            "CONSOLE_TOKEN": self._secrets["console_token"],
            "RECEIVER_HOST": "127.0.0.1",
            "METRICS_HOST": "127.0.0.1",
            "TEMP_DIR": str(temp),
        }

    @property
    def endpoints(self) -> Endpoints:
        """Where everything is."""
        return Endpoints(
            receiver_url=self.receiver_url,
            console_url=f"{self.receiver_url}/console/",
            supabase_url=self._supabase.url,
            service_role_key=self._supabase.service_role_key,
            anon_key=self._supabase.anon_key,
            jwt_secret=self._supabase.jwt_secret,
            database_url=self._database_url,
            rabbitmq_url=self._rabbitmq_url,
            webhook_secret=self._secrets["webhook_secret"],
            api_token=self._secrets["api_token"],
            console_token=self._secrets["console_token"],
            source_url=self.source.url,
            worker_metrics_urls=[self._metrics_urls[worker.name] for worker in self.workers if worker.running],
            data_dir=str(self.data_dir),
        )
