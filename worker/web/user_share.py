"""Fairness between users: one user's flood waits in the bulk queue, not in front of other users' jobs.

The receiver remembers whose jobs it has published to the queue for files. The queue is first in, first out, so the jobs
that still wait are the last ones: as many as the broker counts. With several receivers the broker's count includes the
jobs of the others, so each receiver may count a user's jobs for longer than they wait.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aio_pika.abc import AbstractRobustChannel

from schemas.jobs import Job, Queue
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.errors import BROKER_ERRORS, BrokerUnavailableError, error_text, translate_broker_errors

MAX_JOBS: Final = 10_000
"""Jobs remembered per receiver."""
COUNT_SECONDS: Final = 0.2
"""Time limit for the broker's count: the sender of a webhook waits for it."""
RECOUNT_SECONDS: Final = 0.1
"""The broker is asked at most once in this time."""


class UserShare:
    """Routes a user's new jobs to the bulk queue while `allowed` or more of the user's files wait; 0: never.

    `count_waiting` returns the number of jobs that wait in the queue `Queue.FILES`, or raises BrokerUnavailableError.
    """

    def __init__(
        self, allowed: int, count_waiting: Callable[[], Awaitable[int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowed = allowed
        self._count_waiting = count_waiting
        self._clock = clock
        self._jobs: deque[tuple[str | None, int]] = deque()
        self._files: Counter[str | None] = Counter()
        self._counting = False
        self._counted_at = float("-inf")

    async def route(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Return the jobs of one event as they are to be published.

        A user with fewer than `allowed` waiting files may reach twice that number with one event. The event's further
        jobs go to the bulk queue. Jobs without a user, such as those of FAL's webhook, are not moved.
        """
        if not self._allowed:
            return jobs
        user_id = jobs[0].user_id if jobs else None
        if user_id is not None and self._is_over(user_id):
            await self._forget_started()
        limit = self._allowed if self._is_over(user_id) else 2 * self._allowed
        return [self._route_job(job, limit) for job in jobs]

    def _is_over(self, user_id: str | None) -> bool:
        return self._files[user_id] >= self._allowed

    def _route_job(self, job: Job, limit: int) -> Job:
        if job.queue is not Queue.FILES:
            return job
        if job.user_id is not None and self._files[job.user_id] >= limit:
            return job.model_copy(update={"queue": Queue.BULK})
        self._remember(job)
        return job

    def _remember(self, job: Job) -> None:
        self._jobs.append((job.user_id, len(job.files)))
        self._files[job.user_id] += len(job.files)
        self._keep_newest(MAX_JOBS)

    async def _forget_started(self) -> None:
        """Forget the jobs that no longer wait. If the broker does not answer, all are assumed to wait.

        Only one webhook at a time waits for the count. The others, and those shortly after it, use the last count.
        """
        if self._counting or self._clock() - self._counted_at < RECOUNT_SECONDS:
            return
        self._counting = True
        try:
            self._keep_newest(await self._count_waiting())
        except BrokerUnavailableError:
            pass
        finally:
            self._counting, self._counted_at = False, self._clock()

    def _keep_newest(self, count: int) -> None:
        while len(self._jobs) > count:
            user_id, files = self._jobs.popleft()
            self._files[user_id] -= files
            if not self._files[user_id]:
                del self._files[user_id]


class WaitingJobs:
    """Counts the jobs in the queue for files that are not yet delivered, on a channel that stays open."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._channel: AbstractRobustChannel | None = None

    async def __call__(self) -> int:
        """Return the number of waiting jobs. Raises BrokerUnavailableError."""
        try:
            with translate_broker_errors():
                async with asyncio.timeout(COUNT_SECONDS):
                    self._channel = self._channel or await self._broker.channel()
                    queue = await self._channel.declare_queue(
                        topology.work_queue(Queue.FILES), passive=True, robust=False
                    )
        except BROKER_ERRORS as error:
            self._channel = None  # it may be closed, because the queue did not exist
            raise BrokerUnavailableError(error_text(error)) from error
        return queue.declaration_result.message_count or 0
