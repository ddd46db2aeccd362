"""Operations of the console: replays and discards run in the background; their progress is saved in the database."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import structlog
from aiohttp import web

from handlers.database.console_queries import ConsoleQueries
from handlers.database.operation_records import OperationRecords
from worker.dead_letters.operation import EXPECTED_ERRORS, Operation
from worker.dead_letters.service import DeadLetterService, Verb
from worker.dead_letters.summary import DeadLetterSummary
from worker.observability.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger("outlast.console")


class Operations:
    """Runs operations in this receiver, and records what operators did."""

    def __init__(self, settings: Settings, records: ConsoleQueries, metrics: Metrics) -> None:
        self._settings, self._records, self._metrics = settings, records, metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(
        self, verb: Verb, by: str, target: dict[str, Any], selected: Sequence[DeadLetterSummary], rate: float | None
    ) -> UUID:
        """Record an operation, then start it. Raises DatabaseUnavailableError; then nothing was started."""
        records = OperationRecords(self._records.supabase)
        operation = Operation(records, verb, by, {**target, "rate": rate}, selected)
        await operation.begin()
        task = asyncio.create_task(self._run(operation, selected, rate), name=f"{verb} {operation.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation.id

    async def record(
        self, verb: str, by: str, target: dict[str, Any], done: int, detail: str = "", of: int = 1
    ) -> None:
        """Record an operation that has already ended, with `done` of `of` items done."""
        log.info("operator", verb=verb, by=by, **target, done=done)
        row = {"id": str(uuid4()), "verb": verb, "by": by, "target": target, "state": "done"}
        await OperationRecords(self._records.supabase).record(row | {"matched": of, "done": done, "detail": detail})

    async def aclose(self, _app: web.Application) -> None:
        """Stop all operations. No dead letter is lost; the rest can be replayed or discarded later."""
        self._stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, operation: Operation, selected: Sequence[DeadLetterSummary], rate: float | None) -> None:
        service = DeadLetterService(self._settings, f"console: {operation.by}", self._metrics)

        def should_abort() -> bool:
            return self._stopping or operation.aborted_by is not None

        try:
            async with (
                service.batch(operation.verb, selected, rate=rate, should_abort=should_abort) as batch,
                operation.recorded(batch),
            ):
                await batch.run()
        except EXPECTED_ERRORS as error:
            await self._failed(operation, str(error))
        except Exception as error:
            log.exception("operation crashed", verb=operation.verb)
            await self._failed(operation, f"{type(error).__name__}; see the log of the receiver")
        log.info("operator", verb=operation.verb, by=operation.by, done=operation.outcome.done, detail=operation.detail)

    async def _failed(self, operation: Operation, detail: str) -> None:
        operation.detail = detail
        await operation.end("failed")
