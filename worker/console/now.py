"""The first page: figures of the last hour, queues, workers, and a banner for each problem."""

import asyncio
import contextlib
import math
import time
from typing import Final

import structlog
from aiohttp import web
from markupsafe import Markup

from handlers.database.client import Supabase
from handlers.database.console_queries import ConsoleQueries, Row
from handlers.errors import FileProcessingError
from schemas.jobs import Queue
from worker.broker.connection import Broker
from worker.broker.errors import BROKER_ERRORS, error_text, translate_broker_errors
from worker.broker.topology import DEAD, work_queue
from worker.console.auth import FORM, SESSION, redirect
from worker.console.charts import DAY, WEEK, trend_chart
from worker.console.operations import Operations
from worker.console.sse import stream
from worker.console.stats import figures, worker_warnings
from worker.console.templating import fragment, page

log = structlog.stdlib.get_logger(__name__)
CACHE_SECONDS: Final = 2.0
PAGE_SECONDS: Final = 0.04
"""How long the first answer of the page waits for figures."""
FIGURES_SECONDS: Final = 10.0
"""Up to this age, figures are shown at once while newer ones are fetched; the page updates itself afterwards."""
TREND_SECONDS: Final = 30.0
"""How long trends are cached: they count all tasks of a week."""
FIRST_CHART_SECONDS: Final = 0.05
"""How long the page waits for the first charts. If they take longer, they appear with the next update of the page."""
PROBE_SECONDS: Final = 3.0


class NowPages:
    """The first page. Its data is fetched at most every two seconds, however many browsers show it.

    At 100,000 tasks an hour the database counts for a tenth of a second, so a page does not wait for it.
    """

    def __init__(
        self, records: ConsoleQueries, broker: Broker, supabase: Supabase | None, operations: Operations
    ) -> None:
        self._records, self._broker, self._supabase, self._operations = records, broker, supabase, operations
        self._fetching: asyncio.Task[None] | None = None
        self._cached: Row = {}
        self._fetched_at = -math.inf
        self._charts: list[tuple[str, Markup]] = []
        self._charts_expire_at = 0.0
        self._drawing: asyncio.Task[None] | None = None

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/", self._show)
        app.router.add_get("/now/live", self._live)
        app.router.add_post("/queues/pause", self._pause_or_resume)
        app.on_shutdown.append(self._stop)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        """Answer without figures if they take longer than PAGE_SECONDS. The page shows them with its first update."""
        context = await self._context(PAGE_SECONDS)
        return page(request, "now.html", title="Now", counting=not context, **context)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            return fragment(request, "now_live.html", await self._context()), False

        return await stream(request, render)

    async def _pause_or_resume(self, request: web.Request) -> web.StreamResponse:
        """Pause a queue, or resume it. Workers follow with their next heartbeat."""
        fields, by = request[FORM], request[SESSION].name
        try:
            queue = Queue(str(fields.get("queue", "")))
        except ValueError:
            raise web.HTTPNotFound(text="There is no queue with this name.") from None
        verb = "pause" if fields.get("verb") == "pause" else "resume"
        changed = await self._records.pause(queue, by, paused=verb == "pause")
        await self._operations.record(verb, by, {"queue": queue.value}, int(changed))
        self._fetching, self._fetched_at = None, -math.inf
        return redirect("/console/")

    async def _context(self, limit: float | None = None) -> Row:
        """Return the template variables, at most FIGURES_SECONDS old. They are renewed after CACHE_SECONDS.

        Return {} if fetching them takes longer than `limit` seconds.
        """
        age, fetching = time.monotonic() - self._fetched_at, self._fetching
        if age > CACHE_SECONDS and (fetching is None or fetching.done()):
            fetching = self._fetching = asyncio.create_task(self._renew(), name="figures")
        if age > FIGURES_SECONDS and fetching is not None:
            await asyncio.wait([fetching], timeout=limit)
            if not fetching.done():
                return {}
            fetching.result()
        return self._cached

    async def _renew(self) -> None:
        """Fetch and cache the template variables. Discard them if a queue was paused or resumed meanwhile."""
        context = await self._fetch()
        if self._fetching is asyncio.current_task() or not self._cached:
            self._cached, self._fetched_at = context, time.monotonic()

    async def _fetch(self) -> Row:
        warnings: list[str] = []
        counts, queues, charts, _ = await asyncio.gather(
            self._database_counts(warnings),
            self._queue_counts(warnings),
            self._trend_charts(),
            self._check_storage(warnings),
        )
        return {
            **figures(counts),
            "queues": queues,
            "pausable": [key.value for key in Queue],
            "paused": counts.get("paused", {}),
            "charts": charts,
            "warnings": warnings + worker_warnings(counts),
        }

    async def _trend_charts(self) -> list[tuple[str, Markup]]:
        """Return title and picture of each chart. They are drawn in the background, at most every TREND_SECONDS."""
        drawing = self._drawing
        if time.monotonic() > self._charts_expire_at and (drawing is None or drawing.done()):
            drawing = self._drawing = asyncio.create_task(self._draw_charts(), name="trends")
        if drawing is not None and not self._charts:
            await asyncio.wait([drawing], timeout=FIRST_CHART_SECONDS)
        return self._charts

    async def _draw_charts(self) -> None:
        """Draw the charts; keep the old ones while the database does not answer."""
        try:
            rows = [await self._records.trend(trend.hours, trend.bins) for trend in (DAY, WEEK)]
        except FileProcessingError as error:
            log.info("trends not read", code=error.code)
            return
        drawn = zip((DAY, WEEK), rows, strict=True)
        self._charts = [(trend.title, trend_chart(trend, counts)) for trend, counts in drawn]
        self._charts_expire_at = time.monotonic() + TREND_SECONDS

    async def _stop(self, _app: web.Application) -> None:
        tasks = [task for task in (self._drawing, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
            warnings.append(f"RabbitMQ does not answer: {error_text(error)}. Check its log, memory and disk.")
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
