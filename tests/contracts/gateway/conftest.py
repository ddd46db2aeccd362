"""A gateway with the test's own database, and clients for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from deploy.local.gateway import Gateway
from deploy.local.postgres import Postgres
from tests.contracts.project import LIVE, Project
from tests.time_limits import WAIT_SECONDS


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "storage") as running:
        yield running


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS)) as session:
        yield session


if LIVE:

    @pytest.fixture
    async def project(http: aiohttp.ClientSession) -> AsyncIterator[Project]:
        created = Project.real(http)
        yield created
        await created.remove_buckets()

else:

    @pytest.fixture
    def project(gateway: Gateway, http: aiohttp.ClientSession) -> Project:
        return Project(http, gateway.url, gateway.service_role_key, gateway.anon_key, gateway.jwt_secret)


class ConnectionProxy:
    """A proxy to a TCP port that can be disconnected and reconnected."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def disconnect(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, target_writer}
        for pair in ((reader, target_writer), (target_reader, writer)):
            task = asyncio.create_task(self._copy(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.abort()


@pytest.fixture
async def database_proxy(postgres: Postgres) -> AsyncIterator[ConnectionProxy]:
    """A proxy to the test's PostgreSQL."""
    created = ConnectionProxy(urlsplit(postgres.url).port or 0)
    await created.connect()
    yield created
    await created.disconnect()
