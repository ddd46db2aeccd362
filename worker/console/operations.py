"""Operations of the console: replays and discards run in the background, their progress is in the database."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import structlog
from aiohttp import web

from handlers.database.console_queries import ConsoleQueries
from handlers.errors import FileProcessingError
from schemas.dead_letters import BatchOutcome
from worker.broker.errors import BrokerUnavailableError
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import DeadLetterService, NoArchiveError, Verb
from worker.dead_letters.summary import DeadLetterSummary
from worker.observability.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger("outlast.console")
SAVE_EVERY_SECONDS: Final = 0.5
MAX_KEPT: Final = 100
"""Number of reasons stored per operation."""
EXPECTED_ERRORS: Final = (BusyError, BrokerUnavailableError, NoArchiveError, FileProcessingError)


class Operations:
    """The operations that run in this receiver."""

    def __init__(self, settings: Settings, records: ConsoleQueries, metrics: Metrics) -> None:
        self._settings, self._records, self._metrics = settings, records, metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(
        self, verb: Verb, by: str, target: dict[str, Any], selected: Sequence[DeadLetterSummary], rate: float | None
    ) -> UUID:
        """Record an operation, then start it. Raises DatabaseUnavailableError; then nothing was started."""
        matched = len({summary.item.id for summary in selected})
        operation = _Operation(uuid4(), verb, by, {**target, "rate": rate}, matched)
        await self._records.record_operation(**operation.to_row("running"))
        task = asyncio.create_task(self._run(operation, selected, rate), name=f"{verb} {operation.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation.id

    async def record(
        self, verb: str, by: str, target: dict[str, Any], done: int, detail: str = "", of: int = 1
    ) -> None:
        """Record an operation that has already ended, with `done` of `of` items done."""
        log.info("operator", verb=verb, by=by, **target, done=done)
        await self._records.record_operation(
            id=str(uuid4()), verb=verb, by=by, target=target, state="done", matched=of, done=done, detail=detail
        )

    async def aclose(self, _app: web.Application) -> None:
        """Stop all operations. No dead letter is lost; the rest can be replayed or discarded later."""
        self._stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, operation: "_Operation", selected: Sequence[DeadLetterSummary], rate: float | None) -> None:
        state, saving = "failed", asyncio.create_task(self._save_progress(operation))
        service = DeadLetterService(self._settings, f"console: {operation.by}", self._metrics)

        def should_abort() -> bool:
            return self._stopping or operation.aborted_by is not None

        try:
            async with service.batch(operation.verb, selected, rate=rate, should_abort=should_abort) as batch:
                operation.get_outcome = batch.outcome
                await batch.run()
            state = "aborted" if operation.outcome.aborted else "done"
            if operation.outcome.aborted:
                operation.detail = f"aborted by {operation.aborted_by or 'the shutdown of the receiver'}"
        except EXPECTED_ERRORS as error:
            operation.detail = str(error)
        except Exception as error:
            log.exception("operation crashed", verb=operation.verb)
            operation.detail = f"{type(error).__name__}; see the log of the receiver"
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        log.info("operator", verb=operation.verb, by=operation.by, state=state, done=operation.outcome.done)
        try:
            await self._records.record_operation(**operation.to_row(state))
        except FileProcessingError as error:
            log.warning("result of an operation not recorded", operation=str(operation.id), code=error.code)

    async def _save_progress(self, operation: "_Operation") -> None:
        """Save the progress regularly, and read whether an operator has aborted the operation."""
        while True:
            await asyncio.sleep(SAVE_EVERY_SECONDS)
            try:
                aborted_by = await self._records.record_operation(**operation.to_row("running"))
                operation.aborted_by = aborted_by or operation.aborted_by
            except FileProcessingError as error:
                log.warning("progress of an operation not recorded", operation=str(operation.id), code=error.code)


class _Operation:
    """A running operation. `get_outcome` returns what has been done so far."""

    def __init__(self, operation_id: UUID, verb: Verb, by: str, target: dict[str, Any], matched: int) -> None:
        self.id, self.verb, self.by, self.target = operation_id, verb, by, target
        self.aborted_by: str | None = None
        self.detail: str | None = None
        self.get_outcome: Callable[[], BatchOutcome] = lambda: BatchOutcome(matched=matched)

    @property
    def outcome(self) -> BatchOutcome:
        return self.get_outcome()

    def to_row(self, state: str) -> dict[str, Any]:
        """Return the row of outlast_operations."""
        outcome = self.outcome
        return {
            "id": str(self.id),
            "verb": self.verb,
            "by": self.by,
            "target": self.target,
            "state": state,
            "matched": outcome.matched,
            "done": outcome.done,
            "kept": [kept.model_dump(mode="json") for kept in outcome.kept[:MAX_KEPT]],
            "detail": self.detail,
        }
