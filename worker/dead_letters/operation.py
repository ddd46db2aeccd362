"""A replay or discard as an operation in the database: its progress, its end, and what became of replayed letters.

The console, the HTTP API and the command line record theirs alike, so the console's history shows all of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from handlers.database.operation_records import OperationRecords
from handlers.errors import FileProcessingError
from schemas.dead_letters import BatchOutcome, BatchRequest
from worker.broker.errors import BrokerUnavailableError
from worker.dead_letters.batch import BatchRun, Progress
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import DeadLetterService, NoArchiveError, Verb
from worker.dead_letters.summary import DeadLetterSummary
from worker.resources import Resources

log = structlog.stdlib.get_logger("outlast.console")
SAVE_EVERY_SECONDS: Final = 0.5
MAX_KEPT: Final = 100
"""Number of reasons stored per operation."""
EXPECTED_ERRORS: Final = (BusyError, BrokerUnavailableError, NoArchiveError, FileProcessingError)


class Operation:
    """A replay or discard of the selected dead letters. `aborted_by` is set when an operator asks to abort it."""

    def __init__(
        self,
        records: OperationRecords,
        verb: Verb,
        by: str,
        target: dict[str, Any],
        selected: Sequence[DeadLetterSummary],
    ) -> None:
        self.id: UUID = uuid4()
        self.verb, self.by, self.target = verb, by, target
        self.aborted_by: str | None = None
        self.detail: str | None = None
        self.stop_reason = "the shutdown of the receiver"
        self._records = records
        self._letters = _letters(selected) if verb == "replay" else {}
        self._matched = len({summary.item.id for summary in selected})
        self._batch: BatchRun | None = None

    @property
    def outcome(self) -> BatchOutcome:
        """What has been done so far."""
        return BatchOutcome(matched=self._matched) if self._batch is None else self._batch.outcome()

    async def begin(self) -> None:
        """Record the operation, before anything is published. Raises DatabaseUnavailableError."""
        await self._records.record(self._row("running"))
        await self._records.follow_replay(self.id, list(self._letters.values()))

    @contextlib.asynccontextmanager
    async def recorded(self, batch: BatchRun) -> AsyncIterator[None]:
        """Save the progress of a batch during the context, then its end. Errors are recorded and raised again."""
        self._batch, state = batch, "failed"
        saving = asyncio.create_task(self._save_progress())
        try:
            yield
            state = "aborted" if self.outcome.aborted else "done"
            if self.outcome.aborted:
                self.detail = f"aborted by {self.aborted_by or self.stop_reason}"
        except EXPECTED_ERRORS as error:
            self.detail = str(error)
            raise
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
            await self.end(state)

    async def end(self, state: str) -> None:
        """Record the end of the operation. If the database does not answer, that is only logged."""
        try:
            await self._unfollow_unpublished()
            await self._records.record(self._row(state))
        except FileProcessingError as error:
            log.warning("result of an operation not recorded", operation=str(self.id), code=error.code)

    async def results(self) -> dict[str, Any] | None:
        """Return what became of the files that the batch replayed, which has ended; None if it replayed none.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        await self._unfollow_unpublished()
        return await self._records.replay_results(self.id) if self._letters else None

    async def _unfollow_unpublished(self) -> None:
        done = frozenset() if self._batch is None else self._batch.done_ids
        if left := [letter_id for letter_id in self._letters if letter_id not in done]:
            await self._records.unfollow_replay(self.id, left)
            self._letters = {letter_id: letter for letter_id, letter in self._letters.items() if letter_id in done}

    async def _save_progress(self) -> None:
        """Save the progress regularly, and read whether an operator has aborted the operation."""
        while True:
            await asyncio.sleep(SAVE_EVERY_SECONDS)
            try:
                self.aborted_by = await self._records.record(self._row("running")) or self.aborted_by
            except FileProcessingError as error:
                log.warning("progress of an operation not recorded", operation=str(self.id), code=error.code)

    def _row(self, state: str) -> dict[str, Any]:
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


@contextlib.asynccontextmanager
async def recorded_batch(
    service: DeadLetterService,
    verb: Verb,
    request: BatchRequest,
    selected: Sequence[DeadLetterSummary],
    *,
    should_abort: Callable[[], bool],
    progress: Progress = lambda _done, _total: None,
) -> AsyncIterator[tuple[BatchRun, Operation | None]]:
    """Prepare a batch of the command line or the HTTP API, and record it as an operation, which operators can abort.

    Dead letters can be replayed without the database. Then the operation is None.

    Raises:
        NoArchiveError: dead letters are to be discarded, but SUPABASE_URL is not set.
    """
    async with Resources(service.settings) as resources:
        supabase = await resources.supabase_if_configured()
        operation = None
        if supabase is not None:
            operation = Operation(OperationRecords(supabase), verb, service.by, _target(request), selected)
            operation.stop_reason = "whoever started it"
            operation = await _begun(operation)

        def aborted() -> bool:
            return should_abort() or (operation is not None and operation.aborted_by is not None)

        async with service.batch(verb, selected, rate=request.rate, should_abort=aborted, progress=progress) as batch:
            if operation is None:
                yield batch, None
                return
            async with operation.recorded(batch):
                yield batch, operation


def results_text(results: Mapping[str, Any]) -> str:
    """Return what became of replayed dead letters: `31 stored again, 5 failed again (source_gone 5), 4 waiting`."""
    failed = dict(sorted(results["failed"].items(), key=lambda entry: (-entry[1], entry[0])))
    causes = f" ({', '.join(f'{code} {number}' for code, number in failed.items())})" if failed else ""
    cancelled = f", {results['cancelled']} cancelled" if results["cancelled"] else ""
    again = f"{results['stored']} stored again, {sum(failed.values())} failed again{causes}"
    return f"{again}{cancelled}, {results['waiting']} waiting"


async def _begun(operation: Operation) -> Operation | None:
    try:
        await operation.begin()
    except FileProcessingError as error:
        log.warning("the console's history will not show this operation", verb=operation.verb, error=str(error))
        return None
    return operation


def _target(request: BatchRequest) -> dict[str, Any]:
    """Return what a request selects, as the console shows it."""
    given = request.model_dump(mode="json", exclude_defaults=True, exclude={"ids", "dry_run"})
    return given | ({"selected": len(request.ids)} if request.ids else {})


def _letters(selected: Sequence[DeadLetterSummary]) -> dict[UUID, dict[str, Any]]:
    """Return the dead letters that can be followed by id: those of a task, with files."""
    letters: dict[UUID, dict[str, Any]] = {}
    for summary in selected:
        item = summary.item
        if item.task_id is not None and summary.source_keys:
            letter = letters.setdefault(item.id, {"id": str(item.id), "task_id": str(item.task_id), "source_keys": []})
            letter["source_keys"] = sorted({*letter["source_keys"], *summary.source_keys})
    return letters
