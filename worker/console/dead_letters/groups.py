"""The page of dead letters grouped by error code, step and host, filtered by time and host, with operators' notes."""

from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries
from schemas.dead_letters import DeadLetterFilter, InvalidFilterError
from worker.console.dead_letters.cache import DeadLetterCache
from worker.console.dead_letters.loading import loading_fragment, loading_page, read_lists
from worker.console.dead_letters.snapshot import DeadLetterSnapshot
from worker.console.dead_letters.timeline import failure_timeline
from worker.console.sse import stream
from worker.console.templating import PAGE_SIZE, fragment, offset, page, url_with_query
from worker.dead_letters.summary import group_items

FILTERS: Final = ("since", "host")
MAX_CHOICES: Final = 200
"""Maximum number of values that are offered for a filter."""


class DeadLetterGroupPages:
    """The page of the groups, and its live part."""

    def __init__(self, records: ConsoleQueries, cache: DeadLetterCache) -> None:
        self._records, self._cache = records, cache

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/dead", self._show)
        app.router.add_get("/dead/live", self._live)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        given, problem = {name: value for name in FILTERS if (value := request.query.get(name, "").strip())}, None
        try:
            filters = DeadLetterFilter.parse(given)
        except InvalidFilterError as error:
            filters, problem = DeadLetterFilter(), str(error)
        letters, running, notes = await read_lists(self._records, self._cache)
        if not letters.known:
            return loading_page(request, letters)
        context = self._grouped(request, filters, letters, notes)
        live = url_with_query("/console/dead/live", **given, **{"from": context["start"]})
        response = page(
            request,
            "dead_letter_groups.html",
            title="Dead letters",
            problem=problem,
            live=live,
            filters=given,
            running=running,
            outdated=not letters.complete,
            url=request.path_qs,
            **context,
        )
        if problem:
            response.set_status(HTTPStatus.UNPROCESSABLE_ENTITY)
        return response

    async def _live(self, request: web.Request) -> web.StreamResponse:
        given = {name: value for name in FILTERS if (value := request.query.get(name, "").strip())}

        async def render() -> tuple[str, bool]:
            letters, running, notes = await read_lists(self._records, self._cache, live=True)
            if not letters.known:
                return loading_fragment(request, letters), False
            context = self._grouped(request, DeadLetterFilter.parse(given), letters, notes)
            more = {"filters": given, "running": running, "outdated": not letters.current}
            return fragment(request, "dead_letter_groups_live.html", {**context, **more}), False

        return await stream(request, render)

    def _grouped(
        self, request: web.Request, filters: DeadLetterFilter, letters: DeadLetterSnapshot, notes: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the template variables of the groups of the dead letters that match."""
        items = [item for item in letters.items if filters.matches(item)]
        since = request.query.get("since", "").strip()
        groups = group_items(items)
        start = offset(request.query.get("from", "")) // PAGE_SIZE * PAGE_SIZE
        timeline = failure_timeline((group_key(item), item.failed_at) for item in items)
        rows = [
            {
                "group": group,
                "failures": timeline.counts.get(group_key(group), ()),
                "note": notes.get(group_key(group)),
                "problem": self._cache.replay_problem(group.code),
                "link": group_url(group.code, group.stage, group.host, since),
            }
            for group in groups[start : start + PAGE_SIZE]
        ]
        return {
            "rows": rows,
            "total": len(items),
            "hosts": sorted({item.host for item in letters.items if item.host})[:MAX_CHOICES],
            "letters": letters,
            "timeline": timeline,
            "start": start,
            "page_size": PAGE_SIZE,
            "total_groups": len(groups),
        }


def group_key(item_or_group: Any) -> str:  # noqa: ANN401 - DeadLetter and DeadLetterGroup have the same three fields
    """Return the key of a dead letter's group. Notes are stored under this key."""
    return "\n".join((item_or_group.code, item_or_group.stage or "", item_or_group.host or ""))


def group_url(code: str, stage: str | None, host: str | None, since: str = "") -> str:
    """Return the URL of the list of a group. An empty stage or host selects dead letters without one."""
    query = {"code": code, "stage": stage or "", "host": host or ""} | ({"since": since} if since else {})
    return str(URL("/console/dead/letters").with_query(query))
