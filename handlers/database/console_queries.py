"""What the database tells those who look after it: pages of tasks, attempts, operators' deeds, notes, the archive."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from httpx import HTTPError, InvalidURL
from storage3.exceptions import StorageApiError

from handlers.database.client import CLIENT_ERRORS, Supabase
from handlers.errors import DatabaseUnavailableError

LINK_SECONDS: Final = 3600
Row = dict[str, Any]
Place = tuple[str, str]
"""Where a page ends: (time, id) of its last row; or where an object lies: (bucket, path)."""


class ConsoleQueries:
    """The console's functions of `deploy/supabase/migrations`. Without a project, nothing is on record.

    Every method raises DatabaseUnavailableError when the database gives no answer.
    """

    def __init__(self, supabase: Supabase | None) -> None:
        self._supabase = supabase
        self._links: dict[Place, tuple[str, float]] = {}

    @property
    def supabase(self) -> Supabase:
        """The project; raises DatabaseUnavailableError when there is none."""
        if self._supabase is None:
            raise DatabaseUnavailableError("this receiver has no SUPABASE_URL, and tasks live in Supabase")
        return self._supabase

    async def overview(self) -> Row:
        """Return what waits and runs, what ended and was stored within the hour, and the workers."""
        return dict(await self._call("now", {}, "outlast_console_"))

    async def tasks(self, chosen: dict[str, str], before: Place | None, limit: int) -> list[Row]:
        """Return a page of tasks, newest first: `status`, `queue`, `code`, `since`, `until`, `q` choose."""
        arguments = {"p_filter": chosen, "p_before": before, "p_limit": limit}
        return list(await self._call("tasks", arguments, "outlast_console_"))

    async def task(self, task_id: UUID) -> Row | None:
        """Return `task`, `attempts` and `files`; None when the task is not on record."""
        found: Row | None = await self._call("task", {"p_task_id": str(task_id)}, "outlast_console_")
        return found

    async def generation(self, name: str) -> Row | None:
        """Return what is known of a generation: `row` (None when it has none), `table` and `tasks`."""
        found: Row | None = await self._call("generation", {"p_id": name}, "outlast_console_")
        return found

    async def operation(self, **told: Any) -> str | None:  # noqa: ANN401 - columns of outlast_operations
        """Put down what an operator does (`id`, `verb`, `by`, `state` at least); return who wants it to end."""
        answer: str | None = (await self._call("operation", {"p_operation": told}))["abort"]
        return answer

    async def operations(
        self, *, name: UUID | None = None, running: bool = False, before: Place | None = None, limit: int = 50
    ) -> list[Row]:
        """Return what operators did, newest first."""
        choice = {"id": None if name is None else str(name), "running": running or None, "before": before}
        given = {key: value for key, value in choice.items() if value is not None}
        return list(await self._call("operations", {"p_choice": given, "p_limit": limit}))

    async def abort(self, name: UUID, by: str) -> bool:
        """Ask for an operation's end, wherever it runs; False when it has ended."""
        return bool(await self._call("abort", {"p_id": str(name), "p_by": by}))

    async def notes(self) -> dict[str, Row]:
        """Return all notes by what they are about."""
        return dict(await self._call("note", {}))

    async def write_note(self, about: str, note: str, by: str) -> None:
        """Write a note; an empty one is removed."""
        await self._call("note", {"p_about": about, "p_note": note, "p_by": by})

    async def archived(self, before: Place | None, limit: int) -> list[Row]:
        """Return a page of the discarded dead letters, latest first, without their bytes."""
        return list(await self._call("archived", {"p_before": before, "p_limit": limit}))

    async def archived_with_bodies(self, ids: Sequence[UUID]) -> list[Row]:
        """Return discarded dead letters with their bytes (`body`, base64), the oldest failure first."""
        return list(await self._call("archived", {"p_ids": [str(name) for name in ids], "p_limit": len(ids)}))

    async def unarchive(self, ids: Sequence[UUID]) -> None:
        """Forget discarded letters that are back among the dead ones."""
        await self._call("unarchive", {"p_ids": [str(name) for name in ids]})

    async def links(self, files: Iterable[Row]) -> dict[str, str]:
        """Return signed URLs, good for half an hour at least, by the files' ids; a file whose object is gone has none.

        A page that is shown again has the same links, so that its pictures are not loaded again.
        """
        now, buckets = time.monotonic(), defaultdict[str, set[str]](set)
        self._links = {place: link for place, link in self._links.items() if link[1] > now}
        places = {file["id"]: (file["bucket"], file["path"]) for file in files}
        for bucket, path in places.values():
            if (bucket, path) not in self._links:
                buckets[bucket].add(path)
        for bucket, paths in buckets.items():
            for path, url in (await self._signed(bucket, sorted(paths))).items():
                self._links[bucket, path] = url, now + LINK_SECONDS / 2
        return {name: self._links[place][0] for name, place in places.items() if place in self._links}

    async def _signed(self, bucket: str, paths: list[str]) -> dict[str, str]:
        try:
            storage = (await self.supabase.client()).storage.from_(bucket)
            signed = await storage.create_signed_urls(paths, LINK_SECONDS)
        except (StorageApiError, HTTPError, InvalidURL, *CLIENT_ERRORS):
            return {}
        told = zip(paths, signed, strict=True)
        return {path: one["signedURL"] for path, one in told if one["signedURL"] is not None and not one["error"]}

    async def _call(self, function: str, arguments: Row, prefix: str = "outlast_") -> Any:  # noqa: ANN401 - any JSON
        return await self.supabase.call(f"{prefix}{function}", arguments)
