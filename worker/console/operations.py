"""Replays and discards in the background of a receiver, with their progress where every receiver can read it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import structlog
from aiohttp import web

from handlers.database.console_queries import ConsoleQueries
from handlers.errors import FileProcessingError
from schemas.dead_letters import BatchOutcome
from worker.broker.connection import BrokerUnavailableError
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import DeadLetterService, NoArchiveError, Verb
from worker.dead_letters.summary import DeadLetterMessage
from worker.observability.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger("outlast.console")
SAVE_SECONDS: Final = 0.5
MOST_KEPT: Final = 100
"""Reasons put down of one operation; their number is told anyway."""
TROUBLE: Final = (BusyError, BrokerUnavailableError, NoArchiveError, FileProcessingError)


class Operations:
    """What operators have running here."""

    def __init__(self, settings: Settings, records: ConsoleQueries, metrics: Metrics) -> None:
        self._settings, self._records, self._metrics = settings, records, metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(
        self, verb: Verb, by: str, target: dict[str, Any], chosen: Sequence[DeadLetterMessage], rate: float | None
    ) -> UUID:
        """Begin, once it is on record. Raises DatabaseUnavailableError, and then nothing was begun."""
        run = _Run(uuid4(), verb, by, {**target, "rate": rate}, len({letter.item.id for letter in chosen}))
        await self._records.operation(**run.told("running"))
        task = asyncio.create_task(self._work(run, chosen, rate), name=f"{verb} {run.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run.name

    async def note(self, verb: str, by: str, target: dict[str, Any], done: int, detail: str = "", of: int = 1) -> None:
        """Put down what was done at once."""
        name = str(uuid4())
        log.info("operator", verb=verb, by=by, **target, done=done)
        await self._records.operation(
            id=name, verb=verb, by=by, target=target, state="done", matched=of, done=done, detail=detail
        )

    async def aclose(self, _app: web.Application) -> None:
        """End what runs: no letter is lost, and what is left can be taken up again."""
        self._stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, run: "_Run", chosen: Sequence[DeadLetterMessage], rate: float | None) -> None:
        state, saving = "failed", asyncio.create_task(self._save(run))
        desk = DeadLetterService(self._settings, f"console: {run.by}", self._metrics)
        try:
            async with desk.removal(
                run.verb, chosen, rate=rate, abort=lambda: self._stopping or run.aborted is not None
            ) as removal:
                run.removal = removal.outcome
                await removal.run()
            state = "aborted" if run.outcome.aborted else "done"
            run.detail = f"aborted by {run.aborted or 'the end of the receiver'}" if run.outcome.aborted else None
        except TROUBLE as error:
            run.detail = str(error)
        except Exception as error:
            log.exception("an operation crashed", verb=run.verb)
            run.detail = f"{type(error).__name__}; the receiver's log has it"
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        log.info("operator", verb=run.verb, by=run.by, state=state, done=run.outcome.done)
        try:
            await self._records.operation(**run.told(state))
        except FileProcessingError as error:
            log.warning("an operation's end is not on record", operation=str(run.name), code=error.code)

    async def _save(self, run: "_Run") -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            try:
                run.aborted = await self._records.operation(**run.told("running")) or run.aborted
            except FileProcessingError as error:
                log.warning("an operation's progress is not on record", operation=str(run.name), code=error.code)


class _Run:
    """One operation: `removal` says what has been done so far."""

    def __init__(self, name: UUID, verb: Verb, by: str, target: dict[str, Any], matched: int) -> None:
        self.name, self.verb, self.by, self.target = name, verb, by, target
        self.aborted: str | None = None
        self.detail: str | None = None
        self.removal: Callable[[], BatchOutcome] = lambda: BatchOutcome(matched=matched)

    @property
    def outcome(self) -> BatchOutcome:
        return self.removal()

    def told(self, state: str) -> dict[str, Any]:
        outcome = self.outcome
        kept = [one.model_dump(mode="json") for one in outcome.kept[:MOST_KEPT]]
        return {
            "id": str(self.name),
            "verb": self.verb,
            "by": self.by,
            "target": self.target,
            "state": state,
            "matched": outcome.matched,
            "done": outcome.done,
            "kept": kept,
            "detail": self.detail,
        }
