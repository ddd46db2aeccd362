"""All operations on dead letters, for the command line, the HTTP API and the console."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage

from handlers.database.task_records import TaskRecords
from schemas.dead_letters import DeadLetter, DeadLetterFilter, DeadLetterGroup
from schemas.urls import redact_url
from worker.broker.envelope import PREFIX, Envelope, UndecodableError
from worker.dead_letters.batch import BatchAction, BatchRun, Progress
from worker.dead_letters.discard import Discard
from worker.dead_letters.queue_lock import DeadLetterQueue
from worker.dead_letters.replay import Replay
from worker.dead_letters.source_refresh import SourceRefresher
from worker.dead_letters.summary import DeadLetterSummary, group_items, merge_items, redact_urls, summarize
from worker.observability.metrics import Metrics
from worker.resources import Resources
from worker.settings import Settings

Verb = Literal["replay", "discard"]
PAST_TENSE: Final[dict[Verb, str]] = {"replay": "replayed", "discard": "discarded"}


class NoArchiveError(Exception):
    """There is no database to archive discarded dead letters in."""


class DeadLetterService:
    """Lists, replays and discards dead letters. `by` is recorded as the operator; `metrics` count replays.

    Every method raises BusyError or BrokerUnavailableError if the queue cannot be read.
    """

    def __init__(self, settings: Settings, by: str, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.by = by
        self._metrics = metrics
        self._queue = DeadLetterQueue(settings)

    async def find(
        self, filters: DeadLetterFilter, progress: Progress = lambda _done, _total: None
    ) -> list[DeadLetterSummary]:
        """Return the summaries of all matching messages. `progress` is called for each message that is read."""
        return await self._queue.find(filters, progress)

    async def items(self, filters: DeadLetterFilter) -> tuple[list[DeadLetter], int]:
        """Return the matching items, oldest failure first and at most `limit`; and the total number of matches."""
        items = merge_items(await self._queue.find(filters.model_copy(update={"limit": None})))
        return items[: filters.limit], len(items)

    async def groups(self, filters: DeadLetterFilter) -> tuple[list[DeadLetterGroup], int]:
        """Count the matching items by (code, stage, host). Return at most `limit` groups, and their total number."""
        groups = group_items(merge_items(await self._queue.find(filters.model_copy(update={"limit": None}))))
        return groups[: filters.limit], len(groups)

    async def show(self, item_id: UUID) -> dict[str, Any] | None:
        """Return an item with the `files` of all its messages and the `headers` of the latest; None if there is none.

        URLs have no query, and no secret or file content is included.
        """
        found: list[tuple[DeadLetterSummary, list[dict[str, Any]], dict[str, Any]]] = []

        def select(message: AbstractIncomingMessage) -> None:
            summary = summarize(message)
            if summary.item.id == item_id:
                found.append((summary, _files(message), _headers(message)))

        async with self._queue.open() as browser:
            async for _ in browser.windows(select):
                continue
        if not found:
            return None
        item = merge_items(summary for summary, _, _ in found)[0]
        files = {file["source_key"]: file for _, files, _ in found for file in files}
        headers = next(headers for summary, _, headers in found if summary.item.failed_at == item.failed_at)
        sorted_files = sorted(files.values(), key=lambda file: file["position"])
        return item.model_dump(mode="json") | {"files": sorted_files, "headers": headers}

    @contextlib.asynccontextmanager
    async def batch(
        self,
        verb: Verb,
        selected: Sequence[DeadLetterSummary],
        *,
        rate: float | None = None,
        should_abort: Callable[[], bool] = lambda: False,
        progress: Progress = lambda _done, _total: None,
    ) -> AsyncIterator[BatchRun]:
        """Prepare to replay or discard the selected dead letters, at most `rate` per second.

        Raises:
            NoArchiveError: dead letters are to be discarded, but SUPABASE_URL is not set.
        """
        async with Resources(self.settings) as resources:
            supabase = await resources.supabase_if_configured()
            action: BatchAction
            if verb == "replay":
                refresher = SourceRefresher(self.settings, await resources.downloader(), supabase)
                action = Replay(refresher, self._metrics)
            elif supabase is None:
                raise NoArchiveError(
                    "discarded dead letters are stored in the database: set SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY"
                )
            else:
                action = Discard(TaskRecords(supabase), self.settings.dead_archive_days, self.by)
            yield BatchRun(self._queue, selected, action, rate=rate, should_abort=should_abort, progress=progress)


def _files(message: AbstractIncomingMessage) -> list[dict[str, Any]]:
    try:
        job = Envelope.read(message).job
    except UndecodableError:
        return []
    return [file.model_dump(mode="json") | {"url": redact_url(file.url)} for file in job.files]


def _headers(message: AbstractIncomingMessage) -> dict[str, Any]:
    """Return our own headers, with values that JSON can represent."""
    ours = {name: value for name, value in message.headers.items() if name.startswith(PREFIX) or name == "traceparent"}
    return {name: _json_value(value) for name, value in sorted(ours.items())}


def _json_value(value: object) -> object:
    if isinstance(value, str):
        return redact_urls(value)
    return value if isinstance(value, int | float | None) else str(value)
