"""History: what operators did, and the progress of running operations."""

from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries, Row
from worker.console.auth import SESSION, redirect
from worker.console.sse import stream
from worker.console.templating import PAGE_SIZE, age, fragment, page, parse_time, url_with_query


class HistoryPages:
    """The pages of operations."""

    def __init__(self, records: ConsoleQueries) -> None:
        self._records = records

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/history", self._list)
        app.router.add_get("/history/{id}", self._show)
        app.router.add_get("/history/{id}/live", self._live)
        app.router.add_post("/history/{id}/abort", self._abort)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        at, _, text = request.query.get("before", "").replace(" ", "+").partition("~")
        parsed, operation_id = parse_time(at), _parse_id(text)
        before = (parsed.isoformat(), str(operation_id)) if parsed and operation_id else None
        rows = await self._records.operations(before=before, limit=PAGE_SIZE + 1)
        older, shown = None, rows[:PAGE_SIZE]
        if len(rows) > PAGE_SIZE:
            older = url_with_query("/console/history", before=f"{shown[-1]['started_at']}~{shown[-1]['id']}")
        return page(request, "history.html", title="History", rows=shown, older=older)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return page(request, "operation.html", title="Operation", operation=await self._operation(request))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            operation = await self._operation(request)
            waiting = operation["state"] == "running" or bool((operation["results"] or {}).get("waiting"))
            return fragment(request, "operation_live.html", {"operation": operation}), not waiting

        return await stream(request, render)

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        operation = await self._operation(request)
        await self._records.abort(UUID(operation["id"]), request[SESSION].name)
        return redirect(f"/console/history/{operation['id']}")

    async def _operation(self, request: web.Request) -> Row:
        """Return the operation of the request, with `stalled`: running, but not updated for two minutes."""
        operation_id = _parse_id(request.match_info["id"])
        operations = await self._records.operations(operation_id=operation_id) if operation_id else []
        if not operations:
            raise web.HTTPNotFound(text="There is no operation with this id.")
        operation = operations[0]
        stalled = operation["state"] == "running" and "s" not in age(operation["updated_at"])
        return operation | {"stalled": stalled}


def _parse_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
