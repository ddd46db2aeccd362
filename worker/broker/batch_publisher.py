"""Publishes all jobs of an event, several at a time."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from schemas.jobs import Job
from worker.broker.connection import Broker
from worker.broker.envelope import Envelope

CONCURRENT_PUBLISHES: Final = 16
"""Confirms that are awaited at the same time. More jobs of one event would delay those of others."""


async def publish_jobs(broker: Broker, jobs: Sequence[Job], limit: float) -> None:
    """Publish all jobs within `limit` seconds, at most CONCURRENT_PUBLISHES at a time.

    Raises:
        BrokerUnavailableError: a job was not confirmed in time. Others may have been published.
    """
    if len(jobs) == 1:
        await broker.publish_job(Envelope(jobs[0]), limit)
        return
    deadline = time.monotonic() + limit
    remaining = iter(jobs)
    publishers = [_publish_each(broker, remaining, deadline) for _ in range(min(CONCURRENT_PUBLISHES, len(jobs)))]
    results = await asyncio.gather(*publishers, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _publish_each(broker: Broker, jobs: Iterator[Job], deadline: float) -> None:
    for job in jobs:
        await broker.publish_job(Envelope(job), max(0.01, deadline - time.monotonic()))
