"""Checks of the topology: what is reported, and that callers share one check. `tests/broker` has them with RabbitMQ."""

import asyncio

import pytest

from worker.broker.errors import BrokerUnavailableError
from worker.broker.topology import TopologyError
from worker.broker.topology_watch import TopologyWatch


class FakeTopology:
    """A queue that is missing; declaring it raises `error`."""

    def __init__(self, error=None):
        self.error, self.missing, self.checks, self.declared = error, True, 0, 0

    async def find_missing(self):
        self.checks += 1
        await asyncio.sleep(0)
        return "outlast.dead" if self.missing else None

    async def declare(self):
        self.declared += 1
        if self.error is not None:
            raise self.error
        self.missing = False


@pytest.fixture
def watched():
    def watch(error=None):
        topology = FakeTopology(error)
        return topology, TopologyWatch(topology.find_missing, topology.declare)

    return watch


async def test_missing_queue_is_declared_once_for_concurrent_callers(watched):
    topology, watch = watched()
    assert await asyncio.gather(*(watch.check() for _ in range(50))) == [True] * 50
    assert (topology.checks, topology.declared, watch.problem) == (1, 1, None)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (TopologyError("outlast.dead exists with other arguments"), "outlast.dead exists with other arguments"),
        (
            BrokerUnavailableError("ACCESS_REFUSED"),
            "outlast.dead is missing on RabbitMQ and cannot be declared",
        ),
        (KeyError("a bug"), "outlast.dead is missing on RabbitMQ"),
    ],
)
async def test_what_cannot_be_declared_stays_a_problem_until_it_can(watched, error, problem):
    topology, watch = watched(error)
    assert not await watch.check()
    assert watch.problem.startswith(problem)
    topology.error = None
    assert await watch.check()
    assert watch.problem is None


async def test_cancelled_caller_does_not_cancel_the_check_of_others(watched):
    topology, watch = watched()
    first, second = asyncio.create_task(watch.check()), asyncio.create_task(watch.check())
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert topology.declared == 1
