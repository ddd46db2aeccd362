"""What command line and HTTP share: dead letters are found, shown, grouped, replayed, discarded."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from handlers.download import Downloader
from handlers.record import Records
from handlers.supabase import Supabase
from schemas.dead_letters import Choice, DeadGroup, DeadLetter
from worker.dead.discard import Discard
from worker.dead.fresh import Freshener
from worker.dead.letters import Letter, grouped, united
from worker.dead.lock import DeadLetters
from worker.dead.removal import Deed, Progress, Removal
from worker.dead.replay import Replay
from worker.dead.show import show
from worker.metrics import Metrics
from worker.settings import Settings

Verb = Literal["replay", "discard"]
PAST: Final[dict[Verb, str]] = {"replay": "replayed", "discard": "discarded"}


class NoArchiveError(Exception):
    """There is nowhere to keep what is to be discarded."""


class Desk:
    """Everything that can be done with dead letters. `by` says who discards; `metrics` count what is replayed.

    Each method raises BusyError or BrokerUnavailableError when the dead letters cannot be read.
    """

    def __init__(self, settings: Settings, by: str, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._by = by
        self._metrics = metrics
        self._letters = DeadLetters(settings)

    async def find(self, choice: Choice) -> list[Letter]:
        """Return every letter meant."""
        return await self._letters.find(choice)

    async def items(self, choice: Choice) -> tuple[list[DeadLetter], int]:
        """Return the items meant, oldest failure first and at most `limit`; and how many match."""
        items = united(await self._letters.find(choice.model_copy(update={"limit": None})))
        return items[: choice.limit], len(items)

    async def groups(self, choice: Choice) -> tuple[list[DeadGroup], int]:
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
        chosen: Sequence[Letter],
        *,
        rate: float | None = None,
        abort: Callable[[], bool] = lambda: False,
        progress: Progress = lambda _done, _total: None,
    ) -> AsyncIterator[Removal]:
        """Prepare to replay or discard letters. Raises NoArchiveError when there is nowhere to keep discarded ones."""
        async with contextlib.AsyncExitStack() as stack:
            supabase = None
            if self._settings.supabase_url is not None:
                supabase = await stack.enter_async_context(Supabase(self._settings))
            deed: Deed
            if verb == "replay":
                downloader = await stack.enter_async_context(Downloader(self._settings))
                deed = Replay(Freshener(self._settings, downloader, supabase), self._metrics)
            elif supabase is None:
                raise NoArchiveError(
                    "discarded letters are kept in the database's archive, and there is none: set SUPABASE_URL and "
                    "SUPABASE_SERVICE_ROLE_KEY"
                )
            else:
                deed = Discard(Records(self._settings, supabase), self._settings.dead_archive_days, self._by)
            yield Removal(self._letters, chosen, deed, rate=rate, abort=abort, progress=progress)
