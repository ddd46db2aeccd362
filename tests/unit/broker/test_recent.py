"""A worker knows the tasks and sources that it has seen lately, and which files its jobs are storing."""

import asyncio
from uuid import uuid4

import pytest

from worker.consume.context import MAX_RECENT, FilesUnderWay, Recent


def test_a_task_is_new_once():
    recent, task = Recent(), uuid4()
    assert [recent.add(task), recent.add(task), recent.add(uuid4())] == [True, False, True]


def test_the_oldest_tasks_are_forgotten():
    recent, first, last = Recent(), uuid4(), uuid4()
    for task in (first, *(uuid4() for _ in range(MAX_RECENT - 1)), last):
        assert recent.add(task)
    assert not recent.add(last)
    assert recent.add(first)


@pytest.fixture
async def jobs():
    """Start jobs that store files; a job ends when its event is set. `began` has the names in order."""
    under_way, began, tasks = FilesUnderWay(), [], []

    def start(name, file, error=None):
        ended = asyncio.Event()

        async def store():
            async with under_way.storing(file):
                began.append(name)
                await ended.wait()
                if error is not None:
                    raise error

        tasks.append(asyncio.create_task(store()))
        return tasks[-1], ended

    yield start, began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def settle():
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("error", [None, ValueError("no file"), asyncio.CancelledError()])
async def test_jobs_for_a_file_that_another_job_stores_wait_for_its_end(jobs, error):
    start, began = jobs
    _, ended = start("first", "a", error)
    start("second", "a")
    start("third", "a")
    start("other file", "b")
    start("no name", None)
    await settle()
    assert began == ["first", "other file", "no name"]
    ended.set()
    await settle()
    assert began[3:] == ["second", "third"], "both at once"


async def test_a_job_that_comes_after_the_end_is_the_first_again(jobs):
    start, began = jobs
    for name in ("first", "second"):
        _, ended = start(name, "a")
        ended.set()
        await settle()
    start("third", "a")
    start("fourth", "a")
    await settle()
    assert began == ["first", "second", "third"]


async def test_a_job_can_be_cancelled_while_it_waits(jobs):
    start, began = jobs
    _, ended = start("first", "a")
    waiting, _ = start("second", "a")
    start("third", "a")
    await settle()
    waiting.cancel()
    await settle()
    assert (waiting.cancelled(), began) == (True, ["first"])
    ended.set()
    await settle()
    assert began == ["first", "third"]


async def test_a_job_does_not_wait_for_ever_for_one_that_hangs():
    under_way = FilesUnderWay(max_wait=0)
    async with under_way.storing("a"), under_way.storing("a"):
        pass
    async with under_way.storing("a"):
        pass
