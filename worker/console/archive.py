"""Discarded dead letters: list them, and move them back to the queue of dead letters."""

import base64
from typing import Any
from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries, Row
from schemas.dead_letters import InvalidFilterError
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.envelope import PREFIX, build_message
from worker.broker.errors import PUBLISH_SECONDS
from worker.console.auth import FORM, SESSION, redirect
from worker.console.operations import Operations
from worker.console.templating import PAGE_SIZE, page, parse_time, url_with_query


class ArchivePages:
    """The pages of the archive."""

    def __init__(self, records: ConsoleQueries, broker: Broker, operations: Operations) -> None:
        self._records, self._broker, self._operations = records, broker, operations

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/dead/archive", self._list)
        app.router.add_post("/dead/restore", self._restore)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        before = _page_position(request.query.get("before", ""))
        rows = await self._records.archived(before, PAGE_SIZE + 1)
        older, shown = None, rows[:PAGE_SIZE]
        if len(rows) > PAGE_SIZE:
            older = url_with_query("/console/dead/archive", before=f"{shown[-1]['discarded_at']}~{shown[-1]['id']}")
        done = request.query.get("done")
        return page(request, "archive.html", title="Discarded dead letters", rows=shown, older=older, done=done)

    async def _restore(self, request: web.Request) -> web.StreamResponse:
        """Publish each message and wait for the confirm, then delete it from the archive.

        A crash in between leaves it in both places, which is harmless.
        """
        fields = request[FORM]
        try:
            ids = [UUID(str(text)) for text in fields.getall("ids", [])][:PAGE_SIZE]
        except ValueError:
            raise InvalidFilterError("ids: one of them is not the id of a dead letter") from None
        rows = await self._records.archived_with_bodies(ids) if ids else []
        done = 0
        try:
            for row in rows:
                body, headers = base64.b64decode(row["body"]), _headers(row["item"])
                message = build_message(body, row["task_id"], headers, row["message_type"])
                await self._broker.publish(topology.DEAD, row["item"].get("queue") or "", message, PUBLISH_SECONDS)
                await self._records.unarchive([UUID(row["id"])])
                done += 1
        finally:
            if ids:
                target, by = {"selected": len(ids)}, request[SESSION].name
                await self._operations.record("restore", by, target, done, of=len(ids))
        return redirect(url_with_query("/console/dead/archive", done=f"{done} restored"))


def _page_position(text: str) -> tuple[str, str] | None:
    """Parse `<time>~<id>`, the last row of the previous page. Raises InvalidFilterError."""
    if not text:
        return None
    at, _, archived_id = text.replace(" ", "+").partition("~")
    try:
        parsed, position = parse_time(at), str(UUID(archived_id))
    except ValueError:
        parsed, position = None, ""
    if parsed is None:
        raise InvalidFilterError("before: is not the position of a page; open the archive again")
    return parsed.isoformat(), position


def _headers(item: Row) -> dict[str, Any]:
    """Return the headers that the message had before it was discarded."""
    values = {
        "attempt": item.get("attempts"),
        "replays": item.get("replays"),
        "first-seen": item.get("first_seen"),
        "error-code": item.get("code"),
        "error": item.get("error"),
        "stage": item.get("stage"),
        "failed-at": item.get("failed_at"),
    }
    return {f"{PREFIX}{name}": value for name, value in values.items() if value is not None}
