"""Now: how it goes, who does what, and a banner when something is wrong."""

import asyncio
import time
from typing import Any, Final

from aiohttp import web

from handlers.console_records import ConsoleRecords, Row
from handlers.errors import FileProcessingError
from handlers.supabase import Supabase
from schemas.jobs import Queue
from worker.broker import BROKER_ERRORS, Broker
from worker.console.live import stream
from worker.console.show import live_part, page
from worker.topology import DEAD, work_queue

MINUTES: Final = 60
FRESH_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 3.0


class NowPages:
    """The first page. What it shows is asked for once every two seconds, however many look."""

    def __init__(self, records: ConsoleRecords, broker: Broker, supabase: Supabase | None) -> None:
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
        told, waiting, _ = await asyncio.gather(self._told(wrong), self._waiting(wrong), self._storage(wrong))
        return {**_figures(told, wrong), "waiting": waiting, "wrong": wrong}

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

    async def _waiting(self, wrong: list[str]) -> dict[str, int]:
        if (problem := await self._broker.problem()) is not None:
            wrong.append(f"RabbitMQ: {problem}")
            return {}
        try:
            async with asyncio.timeout(PROBE_SECONDS), await self._broker.another() as connection:
                channel = await connection.channel()
                names = {key.value: work_queue(key) for key in Queue} | {"dead letters": DEAD}
                return {
                    label: (await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0
                    for label, name in names.items()
                }
        except BROKER_ERRORS as error:
            wrong.append(f"RabbitMQ: {type(error).__name__}")
            return {}


def _figures(told: Row, wrong: list[str]) -> Row:
    """Return what the page shows of the database's answer, and say what is wrong with it."""
    good, bad = [0] * MINUTES, [0] * MINUTES
    for row in told.get("ended", ()):
        if 0 <= row["ago"] < MINUTES and row["status"] != "cancelled":
            (good if row["status"] == "completed" else bad)[MINUTES - 1 - row["ago"]] += row["n"]
    stats: dict[str, Any] = told.get("workers", {"workers": {}, "active_tasks": {}})
    if told and not stats["workers"]:
        wrong.append("No worker has been heard of for a minute: start one (outlast worker), or look at its log")
    for name, worker in sorted(stats["workers"].items()):
        wrong.extend(f"{name} is paused: {what} {said}" for what, said in sorted(worker.get("paused", {}).items()))
    files = told.get("files", {"stored": 0, "original": 0, "bytes": 0, "deduplicated": 0})
    ended = sum(good) + sum(bad)
    return {
        "good": good,
        "bad": bad,
        "ended": ended,
        "ratio": None if not ended else sum(good) / ended,
        "active": told.get("active", {}),
        "oldest": told.get("oldest"),
        "files": files,
        "saved": max(0, files["original"] - files["bytes"]),
        "workers": sorted(stats["workers"].items()),
        "running": stats["active_tasks"],
    }
