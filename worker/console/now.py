"""The first page: figures of the last hour, queues, workers, and a banner for each problem."""

import asyncio
import contextlib
import time
from typing import Final

from aiohttp import web

from handlers.database.client import Supabase
from handlers.database.console_queries import ConsoleQueries, Row
from handlers.errors import FileProcessingError
from schemas.jobs import Queue
from worker.broker.connection import Broker
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.broker.topology import DEAD, work_queue
from worker.console.sse import stream
from worker.console.stats import figures, worker_warnings
from worker.console.templating import fragment, page

CACHE_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 3.0


class NowPages:
    """The first page. Its data is fetched at most every two seconds, however many browsers show it."""

    def __init__(self, records: ConsoleQueries, broker: Broker, supabase: Supabase | None) -> None:
        self._records, self._broker, self._supabase = records, broker, supabase
        self._fetching = asyncio.Lock()
        self._cached: Row = {}
        self._expires_at = 0.0

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/", self._show)
        app.router.add_get("/now/live", self._live)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return page(request, "now.html", title="Now", **await self._context())

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            return fragment(request, "now_live.html", await self._context()), False

        return await stream(request, render)

    async def _context(self) -> Row:
        """Return the template variables, cached for CACHE_SECONDS."""
        async with self._fetching:
            if time.monotonic() > self._expires_at:
                self._cached = await self._fetch()
                self._expires_at = time.monotonic() + CACHE_SECONDS
        return self._cached

    async def _fetch(self) -> Row:
        warnings: list[str] = []
        counts, queues, _ = await asyncio.gather(
            self._database_counts(warnings), self._queue_counts(warnings), self._check_storage(warnings)
        )
        return {**figures(counts), "queues": queues, "warnings": warnings + worker_warnings(counts)}

    async def _database_counts(self, warnings: list[str]) -> Row:
        """Return the counts of tasks, files and workers; if that fails, add a warning and return none."""
        try:
            return await self._records.overview()
        except FileProcessingError as error:
            warnings.append(f"Database: {error}")
            return {}

    async def _check_storage(self, warnings: list[str]) -> None:
        """Add a warning if Storage does not answer."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                if self._supabase is not None:
                    await self._supabase.check_reachable()
        except (FileProcessingError, TimeoutError) as error:
            warnings.append(f"Storage: {str(error) or f'no answer within {PROBE_SECONDS:g} s'}")

    async def _queue_counts(self, warnings: list[str]) -> dict[str, int]:
        """Return the number of messages in each queue; if that fails, add a warning and return none."""
        if (problem := await self._broker.problem()) is not None:
            warnings.append(f"RabbitMQ: {problem}")
            return {}
        try:
            with translate_broker_errors():
                return await self._count_messages()
        except BROKER_ERRORS as error:
            warnings.append(f"RabbitMQ: {type(error).__name__}")
            return {}

    async def _count_messages(self) -> dict[str, int]:
        """Count over a separate connection, which can be abandoned if the broker stops answering."""
        connection = await self._broker.open_connection()
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
