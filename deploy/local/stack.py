"""The local stack: starts and stops broker, database, gateway, sample source, receiver and workers.

If RABBITMQ_URL or SUPABASE_URL is set in the environment, that broker or project is used and none is started.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import aiohttp
import asyncpg

from deploy.local.endpoints import Endpoints, SupabaseCredentials
from deploy.local.gateway import Gateway
from deploy.local.postgres import Postgres
from deploy.local.processes import Child, StackError, end_leftovers, free_port, lock_data_dir, run_all, unexpected_exits
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.samples import Sample, make_samples
from deploy.local.saved_state import check_port, remove_endpoints, saved_port, saved_secrets
from deploy.local.source import Source
from handlers.settings import FAL_SOURCES

READY_SECONDS: Final = 240.0
DATABASE: Final = "outlast"
STARTS: Final = 3


class Stack:
    """`async with Stack(...)`: all parts run inside the block and are stopped after it. `report` is called per step.

    `program` is the argument list that starts Outlast, without the command; by default the running installation.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        port: int | None = None,
        report: Callable[[str], None] = lambda _: None,
        program: Sequence[str] = (sys.executable, "-m", "worker"),
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.samples: list[Sample] = []
        self.source = Source(self.data_dir / "samples")
        self.receiver: Child | None = None
        self.workers: list[Child] = []
        self._worker_count = workers
        self._port = port
        self._report = report
        self._program = tuple(program)
        self._exit_stack = contextlib.AsyncExitStack()
        self._numbers = itertools.count(1)
        self._metrics_urls: dict[str, str] = {}
        self._secrets: dict[str, str] = {}
        self._rabbitmq_url = os.environ.get("RABBITMQ_URL", "")
        self._supabase = SupabaseCredentials(
            os.environ.get("SUPABASE_URL", ""), os.environ.get("SUPABASE_SERVICE_ROLE_KEY", "")
        )
        self._database_url = ""
        self.receiver_url = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit_stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            self._report("stopping")
        finally:  # also when report fails because the terminal is closed
            await self._exit_stack.aclose()

    async def _start(self) -> None:
        self._exit_stack.enter_context(lock_data_dir(self.data_dir))
        remove_endpoints(self.data_dir)
        for name in end_leftovers(self.data_dir):
            self._report(f"ended {name}, left behind by an earlier run")
        if self._port is not None:
            check_port(self._port)
        self._secrets = saved_secrets(self.data_dir)
        self._report("starting RabbitMQ, PostgreSQL and the sample source")
        await run_all(self._start_broker(), self._start_supabase(), self._start_source())
        self._report("starting the receiver and the workers")
        await self._start_receiver()
        await run_all(*(self.start_worker() for _ in range(self._worker_count)))

    async def _start_broker(self) -> None:
        if self._rabbitmq_url:
            return
        broker = RabbitMQ(self.data_dir)
        self._exit_stack.push_async_callback(broker.stop)
        await broker.start()
        self._rabbitmq_url = broker.url

    async def _start_supabase(self) -> None:
        if self._supabase.url:
            return
        postgres = Postgres(self.data_dir)
        self._exit_stack.push_async_callback(postgres.stop)
        await postgres.start()
        self._database_url = await postgres.create_database(DATABASE)
        gateway = Gateway(
            database_url=self._database_url,
            storage_dir=self.data_dir / "storage",
            port=saved_port(self.data_dir, "gateway"),
            jwt_secret=self._secrets["jwt_secret"],
        )
        self._exit_stack.push_async_callback(gateway.stop)
        await gateway.start()
        self._supabase = SupabaseCredentials(
            gateway.url, gateway.service_role_key, gateway.anon_key, gateway.jwt_secret
        )
        await self._create_bucket()

    async def _create_bucket(self) -> None:
        url, key = self._supabase.url, self._supabase.service_role_key
        bucket = os.environ.get("STORAGE_BUCKET") or "generations"
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            body = {"id": bucket, "name": bucket, "public": False}
            async with session.post(f"{url}/storage/v1/bucket", json=body) as response:
                text = await response.text()
                if response.status >= 400 and "Duplicate" not in text:  # noqa: PLR2004 - any HTTP error
                    raise StackError(f"the bucket {bucket!r} cannot be created: {text}")

    async def _start_source(self) -> None:
        self.samples = await asyncio.to_thread(make_samples, self.data_dir / "samples")
        for left in reversed(range(STARTS)):
            self.source = Source(self.data_dir / "samples", port=saved_port(self.data_dir, "source"))
            try:
                await self.source.start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not left:
                    raise  # otherwise another program took the port first
            else:
                break
        self._exit_stack.push_async_callback(self.source.stop)

    async def _start_receiver(self) -> None:
        port = self._port or saved_port(self.data_dir, "receiver", 8080)
        self.receiver_url = f"http://127.0.0.1:{port}"
        if self._database_url:
            await self._configure_webhook()
        self.receiver = await self._spawn("receiver", ["receiver"], {"RECEIVER_PORT": str(port)})
        await self.receiver.wait_until_ready(f"{self.receiver_url}/readyz", READY_SECONDS)

    async def _configure_webhook(self) -> None:
        """Store the URL and the secret for the trigger in outlast_settings, as the SQL of `outlast init` does."""
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
        """Whether the stack runs the database, so that its trigger can reach the receiver."""
        return bool(self._database_url)

    async def start_worker(self) -> Child:
        """Start one more worker and wait until it is ready."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        child = await self._spawn(f"worker-{next(self._numbers)}", ["worker"], {"METRICS_PORT": str(port)})
        self.workers.append(child)
        self._metrics_urls[child.name] = f"{url}/metrics"
        await child.wait_until_ready(f"{url}/readyz", READY_SECONDS)
        return child

    async def supervise(self) -> None:
        """Replace each worker that ended. Raises StackError when another part ended unexpectedly."""
        for child in [worker for worker in self.workers if not worker.running]:
            self._report(f"{child.name} ended with exit code {child.process.returncode}; starting another worker")
            self.workers.remove(child)
            await child.stop()  # other processes of its group may still run
            await self.start_worker()
        workers = {worker.name for worker in self.workers}
        for name, tail in unexpected_exits(self.data_dir).items():
            if name not in workers:  # a worker that ended since the loop above is replaced by the next call
                log = self.data_dir / "log" / f"{name}.log"
                raise StackError(f"{name} ended unexpectedly. The last lines of its log, {log}:\n{tail or '(none)'}")

    async def _spawn(self, name: str, arguments: list[str], extra: dict[str, str]) -> Child:
        argv = [*self._program, *arguments]
        env = {**os.environ, **self._environment(), **extra}
        # In the data directory, so that a .env of the caller, which may name a real project, is not read.
        child = await Child.spawn(name, argv, data_dir=self.data_dir, env=env, cwd=self.data_dir)
        self._exit_stack.push_async_callback(child.stop, 40)
        return child

    def _environment(self) -> dict[str, str]:
        """Return the variables for receiver and workers; they inherit all others from this process."""
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
            "LOCAL_STACK": "true",
            "RECEIVER_HOST": "127.0.0.1",
            "METRICS_HOST": "127.0.0.1",
            "TEMP_DIR": str(temp),
        }

    @property
    def endpoints(self) -> Endpoints:
        """Addresses and credentials of all parts."""
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
