"""Adds to jobs from FAL's webhook what a binding with `fal_finishes` needs: the output for the row, or FAL's error.

The receiver does not know whether the generation's binding has `fal_finishes`, so the first job of every event from
FAL carries the result.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from handlers.settings import MediaSettings
from handlers.sources.outputs import OutputFiles
from handlers.sources.refusals import refusal_of
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import MAX_JOB_BYTES, FalResult, Job, NamedGeneration, output_key_for, task_id_for

RESERVED_BYTES: Final = 64 * 1024
"""Bytes that are kept free in a message, for fields that later versions add."""


def with_fal_result(jobs: Sequence[Job], event: CompletedGeneration, found: OutputFiles) -> tuple[Job, ...]:
    """Return the jobs of an event from FAL with the generation that the address names, and the first with the output.

    An output that does not fit into the message is left out. If the binding has `fal_finishes`, the job then fails with
    the code `row_rejected`, because the row cannot be completed.
    """
    named = tuple(job.model_copy(update={"named": event.named}) for job in jobs)
    if not named:
        return ()
    urls = tuple(file.url for file in found.files if refusal_of(file.url) is None)
    result = FalResult(status="OK", output=_to_json(event.output), urls=urls)
    if _size(named[0]) + _size(result) + RESERVED_BYTES > MAX_JOB_BYTES:
        result = FalResult(status="OK")
    return (named[0].model_copy(update={"fal_result": result}), *named[1:])


def result_only_jobs(
    event: CompletedGeneration | IgnoredWebhook, named: NamedGeneration | None, settings: MediaSettings
) -> tuple[Job, ...]:
    """Return a job that writes FAL's error, or an output without files, to the generation's row.

    No job is returned if the event has no request id, or if the job would be too large for a message.
    """
    if event.request_id is None:
        return ()
    result = FalResult(status="OK", output=_to_json(event.output)) if isinstance(event, CompletedGeneration) else None
    result = result or FalResult(status="ERROR", error=event.error if isinstance(event, IgnoredWebhook) else None)
    job = Job(
        task_id=task_id_for(f"fal:{event.request_id}:result", (), settings.profile),
        request_id=event.request_id,
        source="fal",
        files=(),
        total_files=0,
        output_key=output_key_for([]),
        profile=settings.profile,
        event_at=datetime.now(UTC),
        named=named,
        fal_result=result,
    )
    return () if _size(job) + RESERVED_BYTES > MAX_JOB_BYTES else (job,)


def _to_json(output: Any) -> str | None:  # noqa: ANN401 - any JSON
    return None if output is None else json.dumps(output, ensure_ascii=False, separators=(",", ":"))


def _size(part: Job | FalResult) -> int:
    return len(part.model_dump_json().encode())
