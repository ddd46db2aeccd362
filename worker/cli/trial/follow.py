"""Follows the test generation from its task to the stored bytes, and says where it stopped and what to do."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from schemas.tasks import TaskStatus
from worker.cli.trial.steps import SentGeneration, StoppedError, TrialFile, TrialState, WebhookResponse

POLL_SECONDS: Final = 0.3
REFUSED_SECONDS: Final = 8.0
"""If for this long all answered webhooks were refused, the test's webhook counts as refused. It is longer than pg_net
waits for an answer, 5 s by default: until then the refused ones may all be others."""
QUIET_SECONDS: Final = 1.0
"""A longer wait is announced."""
START_WORKER: Final = "start `outlast worker` with the same RABBITMQ_URL and SUPABASE_URL as the receiver"


class TrialFollower:
    """Waits for each step of one test generation. Every wait is limited to `seconds`; `announce` prints a long one.

    `since`: the database's time (ISO 8601) before the generation was sent, because its webhook may be answered at once.
    """

    def __init__(
        self, supabase: Supabase, sent: SentGeneration, seconds: float, since: str, announce: Callable[[str], None]
    ) -> None:
        self._supabase = supabase
        self._sent = sent
        self._seconds = seconds
        self._since = since
        self._announce = announce
        self._refused_since: float | None = None
        self._may_be_delivered = False

    async def state(self) -> TrialState:
        """Return the state of the test generation in the database. Raises FileProcessingError."""
        arguments = self._sent.arguments | {"p_since": self._since}
        return parse_answer("outlast_try_state", TrialState, await self._supabase.call("outlast_try_state", arguments))

    async def wait_for_task(self, extra_seconds: float = 0.0) -> str:
        """Wait until a worker has begun the task. Raises StoppedError, also when the webhook was refused."""
        state = await self._wait(
            "a worker to begin the task", lambda state: bool(state.tasks) or self._stays_refused(state), extra_seconds
        )
        if not state.tasks:
            raise await self._no_task(state)
        return f"a worker has begun the task {state.tasks[0].task_id}"

    async def wait_for_end(self) -> str:
        """Wait until the task is completed with a file. Raises StoppedError."""
        state = await self._wait("the end of the task", lambda state: all(task.status.ready for task in state.tasks))
        if not state.files and all(task.status is TaskStatus.COMPLETED for task in state.tasks):
            problem = "the task ended without a file: the output of the test was not recognised as one"
            raise StoppedError("process", problem, "check the output column: `outlast doctor`, or try --via webhook")
        task = state.tasks[0]
        if task.status is TaskStatus.COMPLETED:
            return "the file was checked, compressed and uploaded"
        failed = f"the task is {task.status}"
        problem = f"{failed}: {task.error_code}: {task.error}" if task.error_code else failed
        remedy = "see the worker's log, `outlast doctor`, and the error codes in deploy/docs/operations.md"
        raise StoppedError(
            "process", problem, remedy if task.error_code else f"it may take longer: --timeout; {remedy}"
        )

    async def read_back(self, folder: Path) -> str:
        """Download the stored bytes and compare their hash. Raises StoppedError."""
        file = (await self.state()).files[0]
        target = folder / "stored"
        try:
            await self._supabase.in_bucket(file.bucket).fetch(file.path, target)
        except FileProcessingError as error:
            remedy = "check STORAGE_BUCKET and the bucket: `outlast doctor`"
            raise StoppedError("read", f"{file.bucket}/{file.path}: {error}", remedy) from error
        if await asyncio.to_thread(_differs, target, file):
            problem = f"{file.bucket}/{file.path} has other bytes than were stored"
            raise StoppedError("read", problem, "check what stands between Outlast and Storage, for example a proxy")
        return f"{file.bucket}/{file.path}: {file.file_size} bytes, SHA-256 as recorded"

    async def check_row(self) -> str:
        """Check that the row's media_status is `completed`. Raises StoppedError."""
        state = await self.state()
        if not state.has_media_status:
            return "not checked: the binding names no column for media_status"
        if state.media_status != "completed":
            problem = f"the files are stored, but the row's media_status is {state.media_status}"
            raise StoppedError(
                "row", problem, "the row or a trigger of yours refuses media: `outlast doctor` shows which"
            )
        return "media_status is completed"

    async def _wait(self, event: str, reached: Callable[[TrialState], bool], extra_seconds: float = 0.0) -> TrialState:
        """Return the state when `reached`, or the last one when the time is over."""
        start, limit, announced = time.monotonic(), self._seconds + extra_seconds, False
        while True:
            state = await self.state()
            waited = time.monotonic() - start
            if reached(state) or waited > limit:
                return state
            if waited > QUIET_SECONDS and not announced:
                announced = True
                self._announce(f"waiting for {event}, for {limit:.0f} s at most")
            await asyncio.sleep(POLL_SECONDS)

    def _stays_refused(self, state: TrialState) -> bool:
        """Return whether the database's webhooks have only been refused, for long enough that ours is among them.

        The answers are the last ones for all rows. After one that was accepted, or that came too late, this is False
        for the whole trial, because it may have been that of the test.
        """
        now = time.monotonic()
        self._may_be_delivered |= any(not _is_refused(each) or _is_late(each) for each in state.responses)
        if not self._sent.has_webhook or not state.responses or self._may_be_delivered:
            return False
        self._refused_since = self._refused_since or now
        return now - self._refused_since > REFUSED_SECONDS

    async def _no_task(self, state: TrialState) -> StoppedError:
        """Return why no worker has begun: the webhook did not arrive, or no worker took the job."""
        workers = (await TaskQueries(self._supabase).workers()).workers
        if self._sent.has_webhook:
            if failed := list(filter(_is_refused, state.responses)):
                reason = failed[0].error or f"status {failed[0].status_code}"
                problem = f"the database could not deliver the webhook: {reason}"
                remedy = (
                    "webhook_url in outlast_settings must be an address that the database reaches: a public one, or a "
                    "tunnel to this machine. 401: the secrets differ. See `outlast doctor`"
                )
                return StoppedError("webhook", problem, remedy)
            if not state.responses and workers:
                remedy = "check pg_net and the triggers with `outlast doctor`, or try --via webhook"
                return StoppedError("webhook", "the database has sent no webhook, or waits for its answer", remedy)
        if not workers:
            return StoppedError("begin", "no worker has reported within the last minute", START_WORKER)
        return StoppedError("begin", "no worker has begun the job", f"look into RabbitMQ and the logs; {START_WORKER}")


def _is_refused(response: WebhookResponse) -> bool:
    return bool(response.error) or (response.status_code or 0) >= HTTPStatus.MULTIPLE_CHOICES


def _is_late(response: WebhookResponse) -> bool:
    """Whether pg_net stopped waiting for an answer. The receiver may have published the job."""
    return "timeout" in (response.error or "").lower()


def _differs(path: Path, file: TrialFile) -> bool:
    content = path.read_bytes()
    return len(content) != file.file_size or hashlib.sha256(content).hexdigest() != file.sha256
