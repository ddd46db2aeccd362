"""The page of a generation: the media on its row, and its tasks."""

import re
from typing import Final
from urllib.parse import quote

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries, Row
from worker.console.templating import page
from worker.settings import Settings

HOSTED_PROJECT: Final = re.compile(r"(?P<project>[a-z0-9]+)\.supabase\.co")


class GenerationPages:
    """The page of a generation. For hosted projects it links to the row in Supabase Studio."""

    def __init__(self, settings: Settings, records: ConsoleQueries) -> None:
        self._records = records
        hosted = HOSTED_PROJECT.fullmatch(URL(settings.supabase_url).host or "") if settings.supabase_url else None
        self._project = None if hosted is None else hosted["project"]

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get("/generations/{id:.+}", self._show)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        generation = await self._records.generation(request.match_info["id"].replace("\x00", ""))
        if generation is None:
            raise web.HTTPNotFound(text="There is no generation with this id.")
        studio_url = self._studio_url(generation)
        return page(request, "generation.html", title="Generation", generation=generation, studio_url=studio_url)

    def _studio_url(self, generation: Row) -> str | None:
        """Return the URL of the row in Supabase Studio; None if the project is not hosted or there is no table."""
        if self._project is None or generation["oid"] is None:
            return None
        row_filter = quote(f"{generation['id_column']}:eq:{generation['id']}", safe="")
        return f"https://supabase.com/dashboard/project/{self._project}/editor/{generation['oid']}?filter={row_filter}"
