"""A generation: what its row says of its media, and which tasks worked on it."""

import re
from typing import Final
from urllib.parse import quote

from aiohttp import web
from yarl import URL

from handlers.database.console_queries import ConsoleQueries, Row
from worker.console.templating import page
from worker.settings import Settings

HOSTED: Final = re.compile(r"(?P<project>[a-z0-9]+)\.supabase\.co")


class GenerationPages:
    """The page of a generation. Hosted projects have an editor for the row itself; it is linked."""

    def __init__(self, settings: Settings, records: ConsoleQueries) -> None:
        self._records = records
        hosted = HOSTED.fullmatch(URL(settings.supabase_url).host or "") if settings.supabase_url else None
        self._project = None if hosted is None else hosted["project"]

    def add_to(self, app: web.Application) -> None:
        """Serve it."""
        app.router.add_get("/generations/{id:.+}", self._show)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        found = await self._records.generation(request.match_info["id"].replace("\x00", ""))
        if found is None:
            raise web.HTTPNotFound(text="No such generation is on record.")
        return page(request, "generation.html", title="Generation", found=found, editor=self._editor(found))

    def _editor(self, found: Row) -> str | None:
        """Return where Supabase Studio shows the row."""
        if self._project is None or found["oid"] is None:
            return None
        one = quote(f"{found['id_column']}:eq:{found['id']}", safe="")
        return f"https://supabase.com/dashboard/project/{self._project}/editor/{found['oid']}?filter={one}"
