"""What command line and HTTP share: dead letters are found, shown, grouped, replayed, discarded."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from handlers.database.client import Supabase
from handlers.database.task_records import TaskRecords
from handlers.download import Downloader
from schemas.dead_letters import DeadLetter, DeadLetterFilter, DeadLetterGroup
from worker.dead_letters.batch import BatchAction, BatchRun, Progress
from worker.dead_letters.detail import show
from worker.dead_letters.discard import Discard
from worker.dead_letters.queue_lock import DeadLetters
from worker.dead_letters.replay import Replay
from worker.dead_letters.source_refresh import SourceRefresher
from worker.dead_letters.summary import DeadLetterMessage, grouped, united
from worker.observability.metrics import Metrics
from worker.settings import Settings

Verb = Literal["replay", "discard"]
PAST: Final[dict[Verb, str]] = {"replay": "replayed", "discard": "discarded"}


class NoArchiveError(Exception):
    """There is nowhere to keep what is to be discarded."""


class DeadLetterService:
    """Everything that can be done with dead letters. `by` says who discards; `metrics` count what is replayed.

    Each method raises BusyError or BrokerUnavailableError when the dead letters cannot be read.
    """

    def __init__(self, settings: Settings, by: str, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._by = by
        self._metrics = metrics
        self._letters = DeadLetters(settings)

    async def find(self, choice: DeadLetterFilter) -> list[DeadLetterMessage]:
        """Return every letter meant."""
        return await self._letters.find(choice)

    async def items(self, choice: DeadLetterFilter) -> tuple[list[DeadLetter], int]:
        """Return the items meant, oldest failure first and at most `limit`; and how many match."""
        items = united(await self._letters.find(choice.model_copy(update={"limit": None})))
        return items[: choice.limit], len(items)

    async def groups(self, choice: DeadLetterFilter) -> tuple[list[DeadLetterGroup], int]:
        """Return the items meant by (code, stage, host), at most `limit` groups; and how many groups there are."""
        groups = grouped(united(await self._letters.find(choice.model_copy(update={"limit": None}))))
        return groups[: choice.limit], len(groups)

    async def show(self, name: UUID) -> dict[str, Any] | None:
        """Return everything known of one item, None when it is not there."""
        return await show(self._letters, name)

    @contextlib.asynccontextmanager
    async def removal(
        self,
        verb: Verb,
        chosen: Sequence[DeadLetterMessage],
        *,
        rate: float | None = None,
        abort: Callable[[], bool] = lambda: False,
        progress: Progress = lambda _done, _total: None,
    ) -> AsyncIterator[BatchRun]:
        """Prepare to replay or discard letters. Raises NoArchiveError when there is nowhere to keep discarded ones."""
        async with contextlib.AsyncExitStack() as stack:
            supabase = None
            if self._settings.supabase_url is not None:
                supabase = await stack.enter_async_context(Supabase(self._settings))
            deed: BatchAction
            if verb == "replay":
                downloader = await stack.enter_async_context(Downloader(self._settings))
                deed = Replay(SourceRefresher(self._settings, downloader, supabase), self._metrics)
            elif supabase is None:
                raise NoArchiveError(
                    "discarded letters are kept in the database's archive, and there is none: set SUPABASE_URL and "
                    "SUPABASE_SERVICE_ROLE_KEY"
                )
            else:
                deed = Discard(TaskRecords(self._settings, supabase), self._settings.dead_archive_days, self._by)
            yield BatchRun(self._letters, chosen, deed, rate=rate, abort=abort, progress=progress)
