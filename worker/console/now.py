"""Now: how it goes, who does what, and a banner when something is wrong."""

import asyncio
import contextlib
import time
from typing import Final

from aiohttp import web

from handlers.database.client import Supabase
from handlers.database.console_queries import ConsoleQueries, Row
from handlers.errors import FileProcessingError
from schemas.jobs import Queue
from worker.broker.connection import BROKER_ERRORS, Broker, translate_broker_errors
from worker.broker.topology import DEAD, work_queue
from worker.console.sse import stream
from worker.console.stats import figures, wrong_with_workers
from worker.console.templating import live_part, page

FRESH_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 3.0


class NowPages:
    """The first page. What it shows is asked for once every two seconds, however many look."""

    def __init__(self, records: ConsoleQueries, broker: Broker, supabase: Supabase | None) -> None:
        self._records, self._broker, self._supabase = records, broker, supabase
        self._asking = asyncio.Lock()
        self._known: Row = {}
        self._until = 0.0

    def add_to(self, app: web.Application) -> None:
        """Serve it."""
        app.router.add_get("/", self._show)
        app.router.add_get("/now/live", self._live)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return page(request, "now.html", title="Now", **await self._look())

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            return live_part(request, "now_live.html", await self._look()), False

        return await stream(request, render)

    async def _look(self) -> Row:
        async with self._asking:
            if time.monotonic() > self._until:
                self._known = await self._ask()
                self._until = time.monotonic() + FRESH_SECONDS
        return self._known

    async def _ask(self) -> Row:
        wrong: list[str] = []
        told, queues, _ = await asyncio.gather(self._told(wrong), self._queues(wrong), self._storage(wrong))
        return {**figures(told), "queues": queues, "wrong": wrong + wrong_with_workers(told)}

    async def _told(self, wrong: list[str]) -> Row:
        try:
            return await self._records.now()
        except FileProcessingError as error:
            wrong.append(f"Database: {error}")
            return {}

    async def _storage(self, wrong: list[str]) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                if self._supabase is not None:
                    await self._supabase.reachable()
        except (FileProcessingError, TimeoutError) as error:
            wrong.append(f"Storage: {str(error) or 'no answer'}")

    async def _queues(self, wrong: list[str]) -> dict[str, int]:
        if (problem := await self._broker.problem()) is not None:
            wrong.append(f"RabbitMQ: {problem}")
            return {}
        try:
            with translate_broker_errors():
                return await self._counts()
        except BROKER_ERRORS as error:
            wrong.append(f"RabbitMQ: {type(error).__name__}")
            return {}

    async def _counts(self) -> dict[str, int]:
        """Count what waits, over a connection of its own, which must not keep us when it falls silent."""
        connection = await self._broker.another()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                channel = await connection.channel()
                names = {key.value: work_queue(key) for key in Queue} | {"dead letters": DEAD}
                return {
                    label: (await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0
                    for label, name in names.items()
                }
        finally:
            with contextlib.suppress(*BROKER_ERRORS):
                await asyncio.wait_for(connection.close(), PROBE_SECONDS)
