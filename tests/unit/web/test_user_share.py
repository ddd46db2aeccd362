"""Fairness between users: how many of a user's files may wait in the queue for files."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from schemas.jobs import Job, JobFile, Queue
from worker.broker.errors import BrokerUnavailableError
from worker.web.user_share import MAX_JOBS, RECOUNT_SECONDS, UserShare


class FakeQueue:
    """The broker's count of waiting jobs, and a clock."""

    def __init__(self):
        self.waiting, self.counts, self.now = 0, 0, 0.0

    async def count(self):
        self.counts += 1
        if self.waiting is None:
            raise BrokerUnavailableError("down")
        return self.waiting

    def clock(self):
        return self.now

    def share(self, allowed):
        return UserShare(allowed, self.count, self.clock)


def event(user, files=1, jobs=1, queue=Queue.FILES):
    """Return the jobs of one event."""
    names = tuple(JobFile(position=n, url=f"https://x/{n}", source_key=str(n)) for n in range(files))
    return [
        Job(
            task_id=uuid4(),
            user_id=user,
            source="supabase",
            files=names,
            total_files=files,
            output_key="k",
            queue=queue,
            event_at=datetime.now(UTC),
        )
        for _ in range(jobs)
    ]


async def send(share, queue, jobs):
    """Route one event and let its jobs wait; return the queues that they are published to."""
    routed = [job.queue for job in await share.route(jobs)]
    queue.waiting += routed.count(Queue.FILES)
    return routed


async def test_a_users_flood_goes_to_the_bulk_queue_and_other_users_jobs_do_not():
    queue = FakeQueue()
    share = queue.share(allowed=8)
    flood = [await send(share, queue, event("flooder")) for _ in range(1000)]
    assert flood == [[Queue.FILES]] * 8 + [[Queue.BULK]] * 992
    assert await send(share, queue, event("honest")) == [Queue.FILES]


async def test_files_are_counted_and_an_events_jobs_beyond_twice_the_share_go_to_the_bulk_queue():
    queue = FakeQueue()
    share = queue.share(allowed=8)
    assert await send(share, queue, event("u", files=5, jobs=6)) == [Queue.FILES] * 4 + [Queue.BULK] * 2
    assert await send(share, queue, event("u", files=5, jobs=3)) == [Queue.BULK] * 3


async def test_a_user_whose_jobs_have_started_is_not_moved():
    queue = FakeQueue()
    share = queue.share(allowed=8)
    for _ in range(100):
        assert await send(share, queue, event("only user")) == [Queue.FILES]
        queue.waiting = 0
        queue.now += RECOUNT_SECONDS


async def test_only_the_newest_jobs_are_taken_for_waiting():
    queue = FakeQueue()
    share = queue.share(allowed=2)
    for user in ("a", "a", "b", "b"):
        await send(share, queue, event(user))
    queue.waiting, queue.now = 2, RECOUNT_SECONDS
    assert await send(share, queue, event("a")) == [Queue.FILES]
    assert await send(share, queue, event("b")) == [Queue.BULK]


async def test_the_broker_is_asked_at_most_once_per_interval_and_not_for_users_below_their_share():
    queue = FakeQueue()
    share = queue.share(allowed=2)
    for number in range(50):
        await send(share, queue, event(f"user {number}"))
    assert queue.counts == 0
    for _ in range(50):
        await send(share, queue, event("flooder"))
    assert queue.counts == 1


async def test_webhooks_do_not_wait_for_a_count_that_another_webhook_waits_for():
    started, counted = asyncio.Event(), asyncio.Event()

    async def count():
        started.set()
        await counted.wait()
        return 0

    share = UserShare(1, count)
    await share.route(event("u"))
    first = asyncio.create_task(share.route(event("u")))
    await started.wait()
    assert [job.queue for job in await share.route(event("u"))] == [Queue.BULK]
    counted.set()
    assert [job.queue for job in await first] == [Queue.FILES]


async def test_a_broker_that_cannot_count_moves_only_users_over_their_share():
    queue = FakeQueue()
    share = queue.share(allowed=1)
    await share.route(event("u"))
    queue.waiting = None
    assert [job.queue for job in await share.route(event("u"))] == [Queue.BULK]
    assert [job.queue for job in await share.route(event("v"))] == [Queue.FILES]


@pytest.mark.parametrize(
    ("allowed", "user", "queue_asked_for"), [(0, "u", Queue.FILES), (1, None, Queue.FILES), (1, "u", Queue.BULK)]
)
async def test_jobs_without_a_user_or_a_limit_and_jobs_of_other_queues_are_not_changed(allowed, user, queue_asked_for):
    queue = FakeQueue()
    share = queue.share(allowed)
    for _ in range(3):
        jobs = event(user, queue=queue_asked_for)
        assert await share.route(jobs) == jobs


async def test_the_number_of_remembered_jobs_is_bounded():
    queue = FakeQueue()
    share = queue.share(allowed=2)
    await send(share, queue, event("first", files=2))
    for number in range(MAX_JOBS):
        await send(share, queue, event(f"user {number}"))
    assert await send(share, queue, event("first")) == [Queue.FILES]
    assert queue.counts == 0
