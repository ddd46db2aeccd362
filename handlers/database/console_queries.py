"""The SQL functions of the console: tasks, generations, operations, notes and the archive of dead letters."""

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
"""For how long a signed URL is valid."""
Row = dict[str, Any]
PageKey = tuple[str, str]
"""(time, id) of the last row of a page; the next page begins after it."""


class ConsoleQueries:
    """The console's functions of `deploy/supabase/migrations`.

    Every method raises DatabaseUnavailableError when the database does not answer, or SUPABASE_URL is not set.
    """

    def __init__(self, supabase: Supabase | None) -> None:
        self._supabase = supabase
        self._links: dict[tuple[str, str], tuple[str, float]] = {}  # (bucket, path): (URL, time until it is reused)

    @property
    def supabase(self) -> Supabase:
        """The project. Raises DatabaseUnavailableError when SUPABASE_URL is not set."""
        if self._supabase is None:
            raise DatabaseUnavailableError("tasks are stored in Supabase; set SUPABASE_URL for the receiver")
        return self._supabase

    async def overview(self) -> Row:
        """Return the numbers of tasks that have not ended, the last hour by minute, paused queues, and the workers."""
        return dict(await self._call("now", {}, "outlast_console_"))

    async def tasks(self, filters: dict[str, str], before: PageKey | None, limit: int) -> list[Row]:
        """Return a page of at most `limit` tasks, newest first. `outlast_tasks_from` (SQL) knows the filters."""
        arguments = {"p_filter": filters, "p_before": before, "p_limit": limit}
        return list(await self._call("tasks", arguments, "outlast_console_"))

    async def count(self, filters: dict[str, str], most: int) -> int:
        """Return the number of tasks that the filters select; `most` + 1 if there are more than `most`."""
        return int(await self._call("count", {"p_filter": filters, "p_most": most}, "outlast_console_"))

    async def choices(self) -> Row:
        """Return the error `codes` and the source `hosts` that are recorded, at most 100 of each, to filter by."""
        return dict(await self._call("choices", {}, "outlast_console_"))

    async def trend(self, hours: int, bins: int) -> list[Row]:
        """Return how many tasks were completed (`stored`) or `failed` (or partial) in `bins` parts of the last hours.

        `ago` is the number of a part: 0 is the last one. Parts without such tasks are left out.
        """
        return list(await self._call("trend", {"p_hours": hours, "p_bins": bins}, "outlast_console_"))

    async def pause(self, queue: str, by: str, *, paused: bool) -> bool:
        """Pause a queue, or resume it; return False if it was paused, or not paused, already."""
        return bool(await self._call("pause", {"p_queue": queue, "p_by": by, "p_paused": paused}))

    async def task(self, task_id: UUID) -> Row | None:
        """Return `task`, `attempts` and `files`; None when the task is not recorded."""
        record: Row | None = await self._call("task", {"p_task_id": str(task_id)}, "outlast_console_")
        return record

    async def generation(self, binding: str, generation_id: str) -> Row | None:
        """Return a generation's `row`, `table` and `tasks`; None if it has neither a row nor a task."""
        arguments = {"p_id": generation_id, "p_binding": binding}
        record: Row | None = await self._call("generation", arguments, "outlast_console_")
        return record

    async def operations(
        self, *, operation_id: UUID | None = None, running: bool = False, before: PageKey | None = None, limit: int = 50
    ) -> list[Row]:
        """Return the operators' recorded operations, newest first; with `running`, only those that run now."""
        filters = {
            "id": None if operation_id is None else str(operation_id),
            "running": running or None,
            "before": before,
        }
        given = {key: value for key, value in filters.items() if value is not None}
        return list(await self._call("operations", {"p_choice": given, "p_limit": limit}))

    async def abort(self, operation_id: UUID, by: str) -> bool:
        """Ask the receiver that runs an operation to abort it; return False when the operation does not run."""
        return bool(await self._call("abort", {"p_id": str(operation_id), "p_by": by}))

    async def notes(self) -> dict[str, Row]:
        """Return all notes, by the key of their group of dead letters."""
        return dict(await self._call("note", {}))

    async def write_note(self, group_key: str, note: str, by: str) -> None:
        """Write the note of a group of dead letters. An empty text removes the note."""
        await self._call("note", {"p_about": group_key, "p_note": note, "p_by": by})

    async def archived(self, before: PageKey | None, limit: int) -> list[Row]:
        """Return a page of the discarded dead letters, the last discarded first, without their bodies."""
        return list(await self._call("archived", {"p_before": before, "p_limit": limit}))

    async def archived_with_bodies(self, ids: Sequence[UUID]) -> list[Row]:
        """Return discarded dead letters with their bodies (`body`, base64), the oldest failure first."""
        return list(
            await self._call("archived", {"p_ids": [str(archived_id) for archived_id in ids], "p_limit": len(ids)})
        )

    async def unarchive(self, ids: Sequence[UUID]) -> None:
        """Remove dead letters from the archive. Call it when they are in the dead-letter queue again."""
        await self._call("unarchive", {"p_ids": [str(archived_id) for archived_id in ids]})

    async def links(self, files: Iterable[Row]) -> dict[str, str]:
        """Return signed URLs by file id, valid for at least half of LINK_SECONDS. Files without a URL are left out.

        A URL is returned again for half of LINK_SECONDS, so that the browser can show the pictures from its cache.
        """
        now, buckets = time.monotonic(), defaultdict[str, set[str]](set)
        self._links = {key: link for key, link in self._links.items() if link[1] > now}
        keys = {file["id"]: (file["bucket"], file["path"]) for file in files}
        for bucket, path in keys.values():
            if (bucket, path) not in self._links:
                buckets[bucket].add(path)
        for bucket, paths in buckets.items():
            for path, url in (await self._sign(bucket, sorted(paths))).items():
                self._links[bucket, path] = url, now + LINK_SECONDS / 2
        return {file_id: self._links[key][0] for file_id, key in keys.items() if key in self._links}

    async def _sign(self, bucket: str, paths: list[str]) -> dict[str, str]:
        """Return signed URLs by path; empty when Storage does not answer."""
        try:
            storage = (await self.supabase.client()).storage.from_(bucket)
            signed = await storage.create_signed_urls(paths, LINK_SECONDS)
        except (StorageApiError, HTTPError, InvalidURL, *CLIENT_ERRORS):
            return {}
        answers = zip(paths, signed, strict=True)
        return {
            path: answer["signedURL"]
            for path, answer in answers
            if answer["signedURL"] is not None and not answer["error"]
        }

    async def _call(self, function: str, arguments: Row, prefix: str = "outlast_") -> Any:  # noqa: ANN401 - any JSON
        return await self.supabase.call(f"{prefix}{function}", arguments)
