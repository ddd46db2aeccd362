"""Discarded letters: seen, and put back among the dead ones for as long as the archive keeps them."""

import base64
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries, Row
from schemas.dead_letters import InvalidFilterError
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.envelope import PREFIX, build
from worker.broker.errors import PUBLISH_SECONDS
from worker.console.auth import SESSION, see
from worker.console.operations import Operations
from worker.console.templating import link, moment, page

PAGE: Final = 50


class ArchivePages:
    """The pages of what was discarded."""

    def __init__(self, records: ConsoleQueries, broker: Broker, operations: Operations) -> None:
        self._records, self._broker, self._operations = records, broker, operations

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get("/dead/archive", self._list)
        app.router.add_post("/dead/restore", self._restore)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        at, _, name = request.query.get("before", "").replace(" ", "+").partition("~")
        before = (at, str(UUID(name))) if moment(at) and name else None
        rows = await self._records.archived(before, PAGE + 1)
        older, shown = None, rows[:PAGE]
        if len(rows) > PAGE:
            older = link("/console/dead/archive", before=f"{shown[-1]['discarded_at']}~{shown[-1]['id']}")
        return page(request, "archive.html", title="Discarded", rows=shown, older=older, done=request.query.get("done"))

    async def _restore(self, request: web.Request) -> web.StreamResponse:
        """Publish each letter, confirmed, before the archive forgets it: a crash between leaves it in both places."""
        fields = await request.post()
        try:
            ids = [UUID(str(name)) for name in fields.getall("ids", [])][:PAGE]
        except ValueError:
            raise InvalidFilterError("ids: one is no letter's id") from None
        rows = await self._records.whole(ids) if ids else []
        done = 0
        try:
            for row in rows:
                message = build(
                    base64.b64decode(row["body"]), row["task_id"], _headers(row["item"]), row["message_type"]
                )
                await self._broker.publish(topology.DEAD, row["item"].get("queue") or "", message, PUBLISH_SECONDS)
                await self._records.unarchive([UUID(row["id"])])
                done += 1
        finally:
            if ids:
                await self._operations.note("restore", request[SESSION].who, {"letters": len(ids)}, done, of=len(ids))
        return see(link("/console/dead/archive", done=f"{done} restored"))


def _headers(item: Row) -> dict[str, Any]:
    """Return the headers the letter had, so that it is the same letter again."""
    told = {
        "attempt": item.get("attempts"),
        "replays": item.get("replays"),
        "first-seen": item.get("first_seen"),
        "error-code": item.get("code"),
        "error": item.get("error"),
        "stage": item.get("stage"),
        "failed-at": item.get("failed_at"),
    }
    return {f"{PREFIX}{name}": value for name, value in told.items() if value is not None}
