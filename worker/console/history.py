"""History: what operators did, and how what runs gets on."""

from typing import Final
from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries, Row
from worker.console.auth import SESSION, see
from worker.console.sse import stream
from worker.console.templating import ago, link, live_part, moment, page

PAGE: Final = 50


class HistoryPages:
    """The pages of operations."""

    def __init__(self, records: ConsoleQueries) -> None:
        self._records = records

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get("/history", self._list)
        app.router.add_get("/history/{id}", self._show)
        app.router.add_get("/history/{id}/live", self._live)
        app.router.add_post("/history/{id}/abort", self._abort)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        at, _, name = request.query.get("before", "").replace(" ", "+").partition("~")
        rows = await self._records.operations(before=(at, name) if moment(at) and _id(name) else None, limit=PAGE + 1)
        older, shown = None, rows[:PAGE]
        if len(rows) > PAGE:
            older = link("/console/history", before=f"{shown[-1]['started_at']}~{shown[-1]['id']}")
        return page(request, "history.html", title="History", rows=shown, older=older)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return page(request, "operation.html", title="Operation", operation=await self._found(request))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            found = await self._found(request)
            return live_part(request, "operation_live.html", {"operation": found}), found["state"] != "running"

        return await stream(request, render)

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        found = await self._found(request)
        await self._records.abort(UUID(found["id"]), request[SESSION].who)
        return see(f"/console/history/{found['id']}")

    async def _found(self, request: web.Request) -> Row:
        name = _id(request.match_info["id"])
        found = await self._records.operations(name=name) if name else []
        if not found:
            raise web.HTTPNotFound(text="No such operation is on record.")
        return found[0] | {"silent": found[0]["state"] == "running" and "s" not in ago(found[0]["updated_at"])}


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
