"""Turns the entries of a sweep into jobs. An entry that cannot be read becomes a job that fails."""

from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import ValidationError

from handlers.download.allowlist import Allowlist
from handlers.json_text import JsonTooLargeError, parse_json
from handlers.sources.plan import plan_jobs, refused_job
from handlers.sources.refusals import Refusal
from schemas.events import CompletedGeneration
from schemas.jobs import DEFAULT_BINDING, Job, Origin, Queue
from schemas.periodic import ReconcileEntry
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)


class _RefusedError(Exception):
    """The entry's row cannot be read."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class SweepPlanner:
    """Plans the entries of one sweep, in their order. It remembers the last plan for entries with the same output.

    With `adopt` the jobs are those of `outlast adopt`.
    """

    def __init__(self, settings: Settings, *, adopt: bool = False) -> None:
        self._settings = settings
        self._adopt = adopt
        self._allowlist = Allowlist(settings.source_allowlist)
        self._last: tuple[Job, ...] = ()

    def jobs(self, entry: ReconcileEntry) -> tuple[Job, ...]:
        """Return the jobs to enqueue: all jobs of a missed generation, or the one job of a task without progress.

        A missed generation whose row cannot be read gets a job that a worker fails with the reason. Takes up to some
        seconds for a large output, so call it in a thread.
        """
        if not entry.same_output:
            self._last = self._plan_or_refuse(entry)
        jobs = self._last
        if entry.task_id is not None:
            changes = entry.model_dump(include={"binding", "generation_id"})
            changes["event_at"] = entry.created_at or datetime.now(UTC)
            jobs = tuple(job.model_copy(update=changes) for job in jobs if job.task_id == entry.task_id)
        source: Origin = "adopt" if self._adopt or entry.past else "reconcile"
        return tuple(job.model_copy(update={"queue": Queue.BULK, "source": source}) for job in jobs)

    def _plan_or_refuse(self, entry: ReconcileEntry) -> tuple[Job, ...]:
        try:
            return self._plan(entry)
        except _RefusedError as error:
            refusal = error.refusal
        except Exception:
            log.exception("generation not planned", binding=entry.binding, generation_id=entry.generation_id)
            refusal = Refusal.ROW_UNREADABLE
        ids = entry.model_dump(include={"binding", "generation_id"})
        log.warning("generation refused", **ids, code=refusal.value)
        if entry.generation_id is None:
            return ()
        event = CompletedGeneration(source="reconcile", **ids, output=None)
        return (refused_job(event, refusal, self._settings),)

    def _plan(self, entry: ReconcileEntry) -> tuple[Job, ...]:
        """Return all jobs of the entry's generation, as the receiver plans them.

        An output without files becomes a job without files. It is completed when it is recorded, so that later sweeps
        skip the generation.
        """
        output = _output(entry)
        if output is None:
            return ()
        try:
            ids = entry.model_dump(include={"binding", "generation_id", "request_id", "user_id"})
            event = CompletedGeneration(source="reconcile", output=output, **ids)
        except ValidationError:
            raise _RefusedError(Refusal.ROW_UNREADABLE) from None
        planned = plan_jobs(event, self._settings, self._allowlist, allow_empty=entry.task_id is None)
        if entry.task_id is None or not entry.request_id:
            return planned
        # The task ids of FAL's webhooks derive from the request id, because these webhooks name no generation.
        by_request = event.model_copy(update={"binding": DEFAULT_BINDING, "generation_id": None})
        return (*planned, *plan_jobs(by_request, self._settings, self._allowlist))


def _output(entry: ReconcileEntry) -> Any:  # noqa: ANN401 - any JSON
    if entry.output_json is None:
        if entry.output_bytes is not None:
            raise _RefusedError(Refusal.OUTPUT_TOO_LARGE)
        return None
    try:
        return parse_json(entry.output_json)
    except JsonTooLargeError:
        raise _RefusedError(Refusal.OUTPUT_TOO_LARGE) from None
    except ValueError:
        raise _RefusedError(Refusal.ROW_UNREADABLE) from None
