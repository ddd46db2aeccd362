"""The search in the header: any id, path or URL leads to the generation, with the reason why it has no media."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries
from handlers.database.search_queries import SearchQueries
from handlers.errors import DatabaseUnavailableError
from handlers.json_text import clean_text
from schemas.jobs import DEFAULT_BINDING
from schemas.urls import MAX_URL_CHARACTERS, is_data_uri, source_key
from worker.console.auth import redirect
from worker.console.templating import page, url_with_query

STORAGE_URL: Final = re.compile(
    r"/storage/v1/(?:object|render/image|upload/resumable)/(?:(?:public|sign|authenticated)/)?"
)
UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MAX_GENERATIONS: Final = 50


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """What a searched text may be: an id (`text`), the source keys of a file's URL, the paths of an object."""

    text: str
    keys: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def read_terms(raw: str) -> SearchTerms:
    """Return what to search for. Of a URL, also the UUID in its path, as in URLs of FAL's requests and the console."""
    text = clean_text(raw.strip())[:MAX_URL_CHARACTERS]
    if is_data_uri(text):
        return SearchTerms("", (source_key(text),))
    if "://" not in text[:10]:
        return SearchTerms(text, (), _paths(text))
    address = text.partition("?")[0]
    storage = STORAGE_URL.search(address)
    found = UUID.search(address.partition("://")[2].partition("/")[2])
    paths = _paths(unquote(address[storage.end() :])) if storage else ()
    return SearchTerms(found[0].lower() if found and not storage else "", (source_key(text),), paths)


def _paths(text: str) -> tuple[str, ...]:
    """Return the paths that a text may be: as it is, or without its first part, which may be the bucket."""
    path = text.strip("/")
    return (path, path.partition("/")[2]) if "/" in path else ()


class SearchPages:
    """The page of the search."""

    def __init__(self, records: ConsoleQueries) -> None:
        self._records = records

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get("/find", self._find)

    async def _find(self, request: web.Request) -> web.StreamResponse:
        """Redirect to the only generation, or the only task; otherwise list what was found and where it was sought."""
        asked = request.query.get("q", "").strip()
        if not asked:
            return page(request, "find.html", title="Find a generation", asked="")
        wanted, queries = read_terms(asked), SearchQueries(self._records.supabase)
        found, rows = await asyncio.gather(
            queries.find(wanted.text, wanted.keys, wanted.paths), _rows(queries, wanted.text)
        )
        generations = _generations(found, rows)
        if len(generations) == 1:
            return redirect(generation_url(*next(iter(generations))))
        tasks = [task for task in found["tasks"] if not task["generation_id"]]
        if not generations and len(tasks) == 1:
            return redirect(f"/console/tasks/{tasks[0]['task_id']}")
        listed = [
            {"binding": binding, "id": generation_id, "by": by, "url": generation_url(binding, generation_id)}
            for (binding, generation_id), by in list(generations.items())[:MAX_GENERATIONS]
        ]
        context = {"generations": listed, "tasks": tasks, "objects": found["objects"], **rows}
        return page(request, "find.html", title="Find a generation", asked=asked[:300], **context)


async def _rows(queries: SearchQueries, text: str) -> dict[str, Any]:
    """Return the rows; none, with `too_slow`, if the tables of the application did not answer in time."""
    try:
        return await queries.find_rows(text) if text else {"rows": [], "not_searched": []}
    except DatabaseUnavailableError:
        return {"rows": [], "not_searched": [], "too_slow": True}


def _generations(found: dict[str, Any], rows: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return the generations by binding and id, each with how it was found: rows first, then files, then tasks."""
    named = [(row["binding"], row["generation_id"], f"row: {row['by']}") for row in rows["rows"]]
    named += [(file["binding"], file["generation_id"], "stored file") for file in found["files"]]
    named += [
        (task["binding"], task["generation_id"], f"task: {task['status']}")
        for task in found["tasks"]
        if task["generation_id"]
    ]
    generations: dict[tuple[str, str], str] = {}
    for binding, generation_id, how in named:
        generations.setdefault((binding, generation_id), how)
    return generations


def generation_url(binding: str, generation_id: str, **query: object) -> str:
    """Return the URL of the page of a generation."""
    name = None if binding == DEFAULT_BINDING else binding
    return url_with_query(f"/console/generations/{quote(generation_id[:256], safe='')}", binding=name, **query)
