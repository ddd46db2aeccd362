"""The budget for request bodies: which bodies wait, are refused, or are evicted."""

import asyncio

import pytest

from tests.time_limits import WAIT_SECONDS
from worker.web.limits.body_budget import MIN_BYTES, BodyBudget, BudgetFullError


async def test_a_body_that_came_with_its_head_never_waits():
    budget = BodyBudget(MIN_BYTES, wait_seconds=WAIT_SECONDS, max_waiting=0)
    async with budget.reserve(MIN_BYTES), budget.reserve(0):
        with pytest.raises(BudgetFullError):
            await budget.reserve(1).__aenter__()


async def test_a_body_waits_for_room():
    budget = BodyBudget(2 * MIN_BYTES, wait_seconds=WAIT_SECONDS, max_waiting=1)
    async with budget.reserve(2 * MIN_BYTES):
        waiting = asyncio.create_task(budget.reserve(1).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, WAIT_SECONDS)


async def test_a_body_is_refused_when_no_room_comes_free_in_time():
    budget = BodyBudget(MIN_BYTES, wait_seconds=0.01, max_waiting=1)
    async with budget.reserve(1):
        with pytest.raises(BudgetFullError):
            await budget.reserve(1).__aenter__()


async def test_a_body_is_refused_at_once_when_too_many_wait():
    budget = BodyBudget(MIN_BYTES, wait_seconds=WAIT_SECONDS, max_waiting=1)
    async with budget.reserve(1):
        waiting = asyncio.create_task(budget.reserve(1).__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(BudgetFullError):
            await budget.reserve(1).__aenter__()
    await asyncio.wait_for(waiting, WAIT_SECONDS)


async def test_the_body_that_has_been_arriving_longest_makes_room():
    budget = BodyBudget(2 * MIN_BYTES, wait_seconds=WAIT_SECONDS, max_waiting=1, evicts=True)
    evicted = []

    async def arrive(name, started):
        async with budget.reserve(1) as reservation:
            try:
                async with asyncio.timeout(WAIT_SECONDS) as reservation.reading:
                    started.set()
                    await asyncio.Event().wait()
            except TimeoutError:
                evicted.append((name, reservation.evicted))

    slow = []
    for name in ("first", "second"):
        started = asyncio.Event()
        slow.append(asyncio.create_task(arrive(name, started)))
        await started.wait()
    async with asyncio.timeout(WAIT_SECONDS), budget.reserve(1):
        assert evicted == [("first", True)]
    slow[1].cancel()


async def test_a_body_that_has_arrived_keeps_its_place():
    budget = BodyBudget(MIN_BYTES, wait_seconds=0.01, max_waiting=1, evicts=True)
    async with budget.reserve(1) as reservation:
        with pytest.raises(BudgetFullError):
            await budget.reserve(1).__aenter__()
        assert not reservation.evicted
