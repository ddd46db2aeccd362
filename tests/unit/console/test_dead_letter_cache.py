"""The list of dead letters of the console: what is returned while the queue is read, and when it is read again."""

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import pytest

from schemas.dead_letters import DeadLetter
from tests.time_limits import WAIT_SECONDS
from worker.broker.errors import BrokerUnavailableError
from worker.console.dead_letters import cache as dead_letter_cache
from worker.console.dead_letters.cache import DeadLetterCache
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.summary import DeadLetterSummary
from worker.settings import Settings


class Queue:
    """The queue with `letters`, in place of the broker and of what reads it. A reading ends when `go_on` is set."""

    def __init__(self):
        self.letters, self.readings, self.error, self.go_on = [], 0, None, asyncio.Event()
        self.read_half = asyncio.Event()

    def add(self, number):
        self.letters += [DeadLetter(id=uuid4(), code="corrupted") for _ in range(number)]

    async def find(self, _filters, progress):
        self.readings += 1
        found = list(self.letters)
        progress(len(found) // 2, len(found))
        self.read_half.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return [DeadLetterSummary(item, frozenset()) for item in found]

    async def channel(self):
        return self

    async def declare_queue(self, _name, *, passive):
        assert passive
        return SimpleNamespace(declaration_result=SimpleNamespace(message_count=len(self.letters)))

    async def close(self):
        pass


@pytest.fixture
def queue():
    queue = Queue()
    queue.add(10)
    return queue


@pytest.fixture
async def cache(queue, monkeypatch):
    monkeypatch.setattr(dead_letter_cache, "DeadLetterService", lambda *_: queue)
    cache = DeadLetterCache(Settings.load(), queue)
    yield cache
    await cache.aclose(None)


async def read_all(cache, queue):
    """Let the reading end, and return the list."""
    queue.go_on.set()
    while not (letters := await cache.latest()).complete:
        await asyncio.sleep(0)
    return letters


async def test_before_the_queue_is_read_the_progress_is_returned_at_once(cache, queue):
    first = await cache.latest()
    assert (first.known, first.current, first.complete, list(first.items)) == (False, False, False, [])
    await queue.read_half.wait()
    assert (await cache.latest()).progress == (5, 10)
    letters = await read_all(cache, queue)
    assert (letters.known, letters.current, len(letters.items), letters.progress) == (True, True, 10, None)
    assert queue.readings == 1


async def test_a_list_with_as_many_messages_as_the_queue_is_not_read_again(cache, queue):
    await read_all(cache, queue)
    assert (await cache.latest()).complete
    assert (await cache.latest(live=True)).current
    assert queue.readings == 1


async def test_a_list_whose_queue_has_changed_is_returned_as_incomplete_until_it_is_read_again(cache, queue):
    await read_all(cache, queue)
    queue.add(2)
    queue.go_on.clear()
    old = await cache.latest()
    assert (old.complete, len(old.items), old.progress) == (False, 10, (6, 12))
    assert len((await read_all(cache, queue)).items) == 12
    assert queue.readings == 2


async def test_an_old_list_is_complete_while_it_is_read_again_if_the_number_of_messages_is_the_same(
    cache, queue, monkeypatch
):
    await read_all(cache, queue)
    monkeypatch.setattr(dead_letter_cache, "MAX_AGE_SECONDS", 0)
    queue.go_on.clear()
    assert [(await cache.latest()).complete for _ in range(3)] == [True] * 3
    await asyncio.wait_for(queue.read_half.wait(), WAIT_SECONDS)
    assert (await cache.latest()).complete


async def test_an_update_waits_for_the_reading_that_makes_the_list_complete(cache, queue, monkeypatch):
    monkeypatch.setattr(dead_letter_cache, "LIVE_WAIT_SECONDS", WAIT_SECONDS)
    await cache.latest()
    updating = asyncio.create_task(cache.latest(live=True))
    queue.go_on.set()
    assert len((await updating).items) == 10


@pytest.mark.parametrize("error", [BusyError("another operator"), BrokerUnavailableError("RabbitMQ: away")])
async def test_a_page_fails_if_the_queue_was_never_read_and_an_update_says_why(cache, queue, error, monkeypatch):
    monkeypatch.setattr(dead_letter_cache, "WAIT_SECONDS", WAIT_SECONDS)
    queue.error = error
    queue.go_on.set()
    with pytest.raises(type(error)):
        await cache.latest()
    letters = await cache.latest(live=True)
    assert (letters.known, letters.problem) == (False, str(error))
    queue.error = None
    assert (await read_all(cache, queue)).problem == ""


async def test_a_reading_that_fails_keeps_the_list_and_its_reason(cache, queue, monkeypatch):
    await read_all(cache, queue)
    monkeypatch.setattr(dead_letter_cache, "WAIT_SECONDS", WAIT_SECONDS)
    queue.add(1)
    queue.error = BusyError("another operator")
    letters = await cache.latest()
    assert (letters.complete, len(letters.items), letters.problem) == (False, 10, "another operator")


async def test_closing_ends_the_reading(cache, queue):
    await cache.latest()
    await cache.aclose(None)
    assert not (await cache.latest()).known
    assert queue.readings == 2
