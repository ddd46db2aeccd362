"""Fetch now: the jobs that a webhook of a row would make, planned and published on request."""

import asyncio
from collections import Counter
from typing import Final

from handlers.database.console_queries import ConsoleQueries
from handlers.database.search_queries import SearchQueries
from handlers.download.allowlist import Allowlist
from handlers.json_text import JsonTooLargeError, parse_json
from handlers.sources.outputs import OutputFiles, find_files
from handlers.sources.plan import BULK_FILES
from schemas.jobs import Job, Queue
from schemas.periodic import ReconcileEntry
from schemas.tasks import TaskStatus
from worker.broker.connection import Broker
from worker.console.generation.reasons import Planned
from worker.periodic.sweep_plan import SweepPlanner
from worker.settings import Settings
from worker.tasks.service import TaskService

SHOWN_BYTES: Final = 512 * 1024
"""Maximum size of an output that is planned only to be shown."""
NO_ROW: Final = "nothing was fetched: there is no such row, or it has no output"
TOO_LARGE: Final = "nothing was fetched: the output is larger than WEBHOOK_MAX_BODY_MB; run `outlast reconcile`"
NO_FILES: Final = "nothing was fetched: the output names no file"


class Fetcher:
    """Plans and submits the files of a row."""

    def __init__(self, settings: Settings, records: ConsoleQueries, broker: Broker) -> None:
        self._settings, self._records, self._broker = settings, records, broker
        self._allowlist = Allowlist(settings.source_allowlist)

    async def planned(self, binding: str, generation_id: str) -> Planned | None:
        """Return what a webhook of the row would fetch; None if there is no output, or it cannot be parsed."""
        queries = SearchQueries(self._records.supabase)
        output, size = await queries.output(binding, generation_id, SHOWN_BYTES)
        if output is None:
            return None if size is None else Planned(None, {})
        try:
            found = await asyncio.to_thread(self._find_files, output)
        except JsonTooLargeError:
            return Planned(None, {})
        except ValueError:
            return None
        return Planned(len(found.files), Counter(file.code for file in found.skipped))

    async def fetch(self, binding: str, generation_id: str) -> tuple[str, int]:
        """Submit the jobs of the row; return what was done, and the number of jobs that were enqueued.

        A task that failed or was cancelled starts again. One that has not ended, or is completed, is left alone.

        Raises:
            DatabaseUnavailableError, BrokerUnavailableError: some may be enqueued; fetch again.
        """
        supabase = self._records.supabase
        queries = SearchQueries(supabase)
        row = (await queries.generation_row(binding, generation_id))["row"]
        max_bytes = int(self._settings.webhook_max_body_mb * 1024 * 1024)
        output, size = await queries.output(binding, generation_id, max_bytes)
        if row is None or not row["completed"] or row["deleted"] or (output is None and size is None):
            return NO_ROW, 0
        if output is None:
            return TOO_LARGE, 0
        jobs = await asyncio.to_thread(self._plan, binding, generation_id, row, output)
        if not jobs:
            return NO_FILES, 0
        statuses = await TaskService(self._settings, supabase, self._broker).submit_jobs(jobs)
        return _summary(statuses), statuses[TaskStatus.QUEUED]

    def _plan(self, binding: str, generation_id: str, row: dict[str, str | None], output: str) -> list[Job]:
        """Return the jobs of the row, in the form of a webhook's. Takes up to some seconds for a large output."""
        owner, request_id = row["owner"], row["request_id"]
        entry = ReconcileEntry(
            binding=binding,
            generation_id=generation_id,
            user_id=None if owner is None else owner[:257],
            request_id=None if request_id is None else request_id[:257],
            output_json=output,
            reason="no_task",
        )
        jobs = [job for job in SweepPlanner(self._settings).jobs(entry) if job.files or job.skipped]
        queue = Queue.BULK if jobs and jobs[0].total_files > BULK_FILES else Queue.FILES
        return [job.model_copy(update={"source": "supabase", "queue": queue}) for job in jobs]

    def _find_files(self, output: str) -> OutputFiles:
        return find_files(parse_json(output), self._settings, self._allowlist)


def _summary(statuses: Counter[TaskStatus]) -> str:
    """Return what became of the submitted tasks."""
    texts = {
        TaskStatus.QUEUED: "being fetched now",
        TaskStatus.RUNNING: "running already",
        TaskStatus.RETRYING: "waiting for a retry already",
        TaskStatus.COMPLETED: "stored already",
    }
    parts = [f"{number} {texts.get(status, status.value)}" for status, number in statuses.items()]
    return f"{'task' if statuses.total() == 1 else 'tasks'}: {', '.join(parts)}"
