"""The page of a generation: why it has its media or none, its files, its tasks, and the button that fetches them."""

import asyncio
import re
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries, Row
from handlers.database.search_queries import SearchQueries
from handlers.json_text import clean_text
from schemas.jobs import DEFAULT_BINDING
from worker.console.auth import FORM, SESSION, redirect
from worker.console.generation.fetch import Fetcher
from worker.console.generation.previews import links_and_previews
from worker.console.generation.reasons import ACTIVE, explain
from worker.console.generation.search import generation_url
from worker.console.operations import Operations
from worker.console.sse import stream
from worker.console.templating import FILES_PER_PAGE, fragment, offset, page
from worker.settings import Settings

HOSTED_PROJECT: Final = re.compile(r"(?P<project>[a-z0-9]+)\.supabase\.co")


class GenerationPages:
    """The page of a generation. For hosted projects it links to the row in Supabase Studio."""

    def __init__(self, settings: Settings, records: ConsoleQueries, fetcher: Fetcher, operations: Operations) -> None:
        self._records, self._fetcher, self._operations = records, fetcher, operations
        self._every = settings.reconcile_every_seconds
        hosted = HOSTED_PROJECT.fullmatch(URL(settings.supabase_url).host or "") if settings.supabase_url else None
        self._project = None if hosted is None else hosted["project"]

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/generation/live", self._live)
        app.router.add_post("/generation/fetch", self._fetch)
        app.router.add_get("/generations/{id:.+}", self._show)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        context = await self._context(request, request.match_info["id"])
        return page(request, "generation.html", title="Generation", **context, done=request.query.get("done"))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            context = await self._context(request, request.query.get("id", ""))
            return fragment(request, "generation_live.html", context), not context["active"]

        return await stream(request, render)

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        """Submit the jobs that a webhook of the row would make, then show the generation's page."""
        fields = request[FORM]
        binding, generation_id = clean_text(fields.get("binding", "")), clean_text(fields.get("id", ""))
        done, enqueued = await self._fetcher.fetch(binding, generation_id)
        target = {"binding": binding[:100], "generation": generation_id[:256]}
        await self._operations.record("fetch", request[SESSION].name, target, enqueued, done, of=max(1, enqueued))
        return redirect(generation_url(binding, generation_id, done=done))

    async def _context(self, request: web.Request, text: str) -> Row:
        """Return the template variables. Raises HTTPNotFound if neither a row nor a task has the id."""
        binding = clean_text(request.query.get("binding", "")) or DEFAULT_BINDING
        generation_id = clean_text(text)
        queries = SearchQueries(self._records.supabase)
        generation, facts = await asyncio.gather(
            self._records.generation(binding, generation_id), queries.generation_row(binding, generation_id)
        )
        if generation is None:
            raise web.HTTPNotFound(text="No row of this binding and no task has this generation id.")
        tasks, row = generation["tasks"], facts["row"]
        may_fetch = row is not None and bool(row["completed"]) and not row["empty"] and not row["deleted"]
        planned = await self._fetcher.planned(binding, generation_id) if may_fetch and not tasks else None
        start = offset(request.query.get("from", "")) // FILES_PER_PAGE * FILES_PER_PAGE
        media = facts["media"][start : start + FILES_PER_PAGE]
        stored = [entry for entry in media if entry["status"] == "stored"]
        links, previews = await links_and_previews(self._records, stored)
        return {
            "generation": generation,
            "facts": facts,
            "reasons": explain(facts, tasks, planned, self._every),
            "may_fetch": may_fetch,
            "active": any(task["status"] in ACTIVE for task in tasks),
            "media": media,
            "start": start,
            "files_per_page": FILES_PER_PAGE,
            "files_after": len(facts["media"]) - start - len(media),
            "links": links,
            "previews": previews,
            "studio_url": self._studio_url(generation),
        }

    def _studio_url(self, generation: dict[str, Any]) -> str | None:
        """Return the URL of the row in Supabase Studio; None if the project is not hosted or there is no table."""
        if self._project is None or generation["oid"] is None:
            return None
        row_filter = quote(f"{generation['id_column']}:eq:{generation['id']}", safe="")
        return f"https://supabase.com/dashboard/project/{self._project}/editor/{generation['oid']}?filter={row_filter}"
