"""How an attempt ends when an object of its stored files is gone: the lease is released nevertheless."""

from types import SimpleNamespace
from uuid import UUID

import pytest

from handlers.errors import FileProcessingError
from schemas.tasks import FinishReply, TaskStatus
from worker.consume.settlement import Settlement

FILE = SimpleNamespace(source_key="a")


class Records:
    """Refuses files like `outlast_finish`, because their object is gone. `calls` are (status, files)."""

    def __init__(self, state):
        self.calls = []
        self.released = False
        self._state = state

    async def finish(self, _job, _lease, status, stored, _failed):
        self.calls.append((status, list(stored)))
        self.released = not stored
        return FinishReply(state=self._state if stored else "recorded")


class Delivery:
    """A message that can be returned to its queue."""

    async def requeue(self, _envelope):
        pass


@pytest.fixture(params=["object_deleting", "object_differs"])
def records(request):
    return Records(request.param)


@pytest.fixture
def settlement(records):
    job = SimpleNamespace(task_id=UUID(int=1), files=[FILE])
    made = Settlement(Delivery(), SimpleNamespace(job=job), SimpleNamespace(records=records))
    made.leased = True
    made.stored.append(FILE)
    return made


async def test_a_job_that_is_returned_at_shutdown_releases_its_lease(settlement, records):
    assert await settlement.requeue() == "requeued"
    assert records.calls == [(TaskStatus.RETRYING, [FILE]), (TaskStatus.RETRYING, [])]
    assert records.released


async def test_a_job_that_failed_releases_its_lease(settlement, records):
    await settlement._record_failure(TaskStatus.RETRYING, FileProcessingError("no"))
    assert records.released
