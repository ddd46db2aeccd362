"""The page that shows how many dead letters have been read, while a page that lists them cannot be shown yet."""

import asyncio
from typing import Any, Final

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries
from handlers.errors import FileProcessingError
from worker.console.dead_letters.cache import DeadLetterCache
from worker.console.dead_letters.snapshot import DeadLetterSnapshot
from worker.console.sse import stream
from worker.console.templating import fragment, page

LIVE: Final = "dead_letter_loading_live.html"


class DeadLetterLoadingPages:
    """The live part of the loading page. When the list has been read, the script loads the requested page again."""

    def __init__(self, cache: DeadLetterCache) -> None:
        self._cache = cache

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get("/dead/loading", self._live)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            letters = await self._cache.latest(live=True)
            return loading_fragment(request, letters), letters.known and letters.current

        return await stream(request, render)


def loading_page(request: web.Request, letters: DeadLetterSnapshot) -> web.Response:
    """Return the page that takes the place of the requested one until the dead letters have been read."""
    return page(request, "dead_letter_loading.html", title="Dead letters", letters=letters, url=request.path_qs)


def loading_fragment(request: web.Request, letters: DeadLetterSnapshot) -> str:
    """Return the HTML of the live part of the loading page."""
    return fragment(request, LIVE, {"letters": letters})


async def read_lists(
    records: ConsoleQueries, cache: DeadLetterCache, *, live: bool = False
) -> tuple[DeadLetterSnapshot, list[Any], dict[str, Any]]:
    """Return the dead letters as last read, the operations that run, and the notes of all groups.

    Raises BusyError or BrokerUnavailableError as `DeadLetterCache.latest`.
    """
    letters, running, notes = await asyncio.gather(
        cache.latest(live=live), running_operations(records), read_notes(records)
    )
    return letters, running, notes


async def read_notes(records: ConsoleQueries) -> dict[str, Any]:
    """Return all notes; none while the database does not answer, since dead letters can be shown without them."""
    try:
        return await records.notes()
    except FileProcessingError:
        return {}


async def running_operations(records: ConsoleQueries) -> list[Any]:
    """Return the operations that run; none while the database does not answer."""
    try:
        return await records.operations(running=True)
    except FileProcessingError:
        return []
