"""The list of dead letters that match a group or filters, and the form for operators' notes."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries
from schemas.dead_letters import DeadLetterFilter, InvalidFilterError
from worker.console.auth import FORM, SESSION, redirect
from worker.console.dead_letters.cache import DeadLetterCache
from worker.console.dead_letters.groups import MAX_CHOICES, group_url
from worker.console.dead_letters.loading import loading_fragment, loading_page, read_lists
from worker.console.dead_letters.snapshot import DeadLetterSnapshot
from worker.console.operations import Operations
from worker.console.sse import stream
from worker.console.templating import PAGE_SIZE, fragment, offset, page, url_with_query

MAX_NOTE_CHARACTERS: Final = 2000
FILTERS: Final = ("code", "stage", "host", "since", "until", "binding", "generation", "user", "task")


class DeadLetterPages:
    """The page with the list, its live part, and the form for notes."""

    def __init__(self, records: ConsoleQueries, operations: Operations, cache: DeadLetterCache) -> None:
        self._records, self._operations, self._cache = records, operations, cache

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/dead/letters", self._list)
        app.router.add_get("/dead/letters/live", self._list_live)
        app.router.add_post("/dead/note", self._write_note)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        given, problem = read_filters(request.query), None
        try:
            filters = DeadLetterFilter.parse(given)
        except InvalidFilterError as error:
            filters, problem = None, str(error)
        letters, running, notes = await read_lists(self._records, self._cache)
        if not letters.known:
            return loading_page(request, letters)
        context = self._listed(request, given, filters, letters)
        group_key = "\n".join((given.get("code", ""), given.get("stage", ""), given.get("host", "")))
        response = page(
            request,
            "dead_letters.html",
            problem=problem,
            title="Dead letters",
            group_key=group_key,
            note=notes.get(group_key),
            running=running,
            outdated=not letters.complete,
            url=request.path_qs,
            live=str(URL("/console/dead/letters/live").with_query({**given, "from": str(context["start"])})),
            **context,
        )
        if problem:
            response.set_status(HTTPStatus.UNPROCESSABLE_ENTITY)
        return response

    async def _list_live(self, request: web.Request) -> web.StreamResponse:
        given = read_filters(request.query)

        async def render() -> tuple[str, bool]:
            letters, running, _ = await read_lists(self._records, self._cache, live=True)
            if not letters.known:
                return loading_fragment(request, letters), False
            context = self._listed(request, given, DeadLetterFilter.parse(given), letters)
            more = {"running": running, "outdated": not letters.current}
            return fragment(request, "dead_letters_live.html", {**context, **more}), False

        return await stream(request, render)

    def _listed(
        self, request: web.Request, given: dict[str, str], filters: DeadLetterFilter | None, letters: DeadLetterSnapshot
    ) -> dict[str, Any]:
        """Return the template variables of the list: one page of what matches, and the values that filters offer."""
        matching = [] if filters is None else [item for item in letters.items if filters.matches(item)]
        start = offset(request.query.get("from", "")) // PAGE_SIZE * PAGE_SIZE
        return {
            "rows": matching[start : start + PAGE_SIZE],
            "total": len(matching),
            "start": start,
            "page_size": PAGE_SIZE,
            "filters": given,
            "choices": {
                name: sorted({value for item in letters.items if (value := getattr(item, name))})[:MAX_CHOICES]
                for name in ("code", "stage", "host")
            },
            "letters": letters,
            "replay_problem": self._cache.replay_problem,
            "page_url": url_with_query("/console/dead/letters", **given) if given else "/console/dead/letters?",
        }

    async def _write_note(self, request: web.Request) -> web.StreamResponse:
        fields = request[FORM]
        group_key = str(fields.get("about", ""))[:500].replace("\r\n", "\n")
        text = str(fields.get("note", "")).replace("\x00", "").strip()[:MAX_NOTE_CHARACTERS]
        by = request[SESSION].name
        await self._records.write_note(group_key, text, by)
        code, stage, host = [*group_key.split("\n"), "", "", ""][:3]
        await self._operations.record("note", by, {"code": code, "stage": stage, "host": host}, 1)
        return redirect(group_url(code, stage, host))


def read_filters(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters of a query or form. An empty stage or host selects dead letters without one."""
    values = {name: str(fields[name]).strip() for name in FILTERS if name in fields}
    return {name: value for name, value in values.items() if value or name in {"stage", "host"}}
