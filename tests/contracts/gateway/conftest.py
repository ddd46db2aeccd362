"""A gateway before a database of the test's own, and what it takes to speak to it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import jwt
import pytest

from deploy.local.gateway import Gateway
from deploy.local.postgres import Postgres

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "storage") as running:
        yield running


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


class Project:
    """The project as its callers see it; `key` says who calls: service, anon, none, forged, expired or opaque."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session
        self.url = gateway.url

    def token(self, **claims: Any) -> str:
        return jwt.encode({"exp": int(time.time()) + 60, **claims}, self.gateway.jwt_secret, algorithm="HS256")

    def headers(self, key: str = "service") -> dict[str, str]:
        keys = {
            "service": self.gateway.service_role_key,
            "anon": self.gateway.anon_key,
            "expired": self.token(role="service_role", exp=1000000000),
            "forged": jwt.encode({"role": "service_role"}, "another secret, quite as long as ours", algorithm="HS256"),
            "opaque": "sb_secret_of_somebody_else",
        }
        return {"apikey": keys[key], "Authorization": f"Bearer {keys[key]}"} if key != "none" else {}

    async def ask(self, method: str, path: str, *, key: str = "service", **more: Any) -> tuple[int, Any, Any]:
        """Return status, body (JSON where it is) and headers."""
        own = self.headers(key) | more.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=own, **more) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return response.status, json.loads(body) if is_json else body, response.headers

    async def replay(self, name: str) -> None:
        """Send what was recorded; compare status, headers and body with what a real service was seen to answer."""
        for exchange in json.loads((DATA / f"{name}.json").read_text()):
            wanted = exchange["answers"]
            more = {"json": exchange.get("json"), "data": exchange.get("body"), "headers": exchange.get("headers", {})}
            status, body, seen = await self.ask(
                exchange["method"], exchange["path"], key=exchange.get("key", "service"), **more
            )
            assert status == wanted["status"], (exchange, body)
            assert {header: seen.get(header) for header in wanted["headers"]} == wanted["headers"], exchange
            if "json" in wanted:
                assert like(wanted["json"], body), (exchange, body)
            if "text" in wanted:
                assert body == wanted["text"].encode(), exchange


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
def project(gateway: Gateway, http: aiohttp.ClientSession) -> Project:
    return Project(gateway, http)


def like(wanted: Any, seen: Any) -> bool:
    """Whether JSON is as wanted, keys in the same order; `...` stands for what differs from run to run."""
    if wanted == "...":
        return seen is not None
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return list(wanted) == list(seen) and all(like(wanted[name], seen[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(wanted) == len(seen) and all(map(like, wanted, seen))
    return bool(wanted == seen)


class Cable:
    """A way to a TCP port that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._ends |= {writer, far_writer}
        for pair in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self._ends.discard(writer)
        writer.transport.abort()


@pytest.fixture
async def cable(postgres: Postgres) -> AsyncIterator[Cable]:
    """The way to the test's PostgreSQL."""
    made = Cable(urlsplit(postgres.url).port or 0)
    await made.mend()
    yield made
    await made.cut()
