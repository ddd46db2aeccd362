"""Users take turns, whatever the number of their events."""

import asyncio

import pytest

from schemas.events import CompletedGeneration
from tests.time_limits import WAIT_SECONDS
from worker.settings import Settings
from worker.web.event_planner import LARGE_BYTES, MAX_URLS, EventPlanner, has_few_urls
from worker.web.turns import Turns


@pytest.fixture
def turns():
    return Turns()


@pytest.fixture
def start(turns):
    """Start an event of a user that holds the lock for one step of the event loop; `order` has the users served."""

    async def hold(user):
        async with turns.of(user):
            start.order.append(user)
            await asyncio.sleep(0)

    def start(user):
        return asyncio.create_task(hold(user))

    start.order = []
    return start


async def test_an_event_of_another_user_waits_for_one_event_only(start):
    await asyncio.gather(*map(start, ["flood"] * 5 + ["honest"] + ["flood"] * 5 + ["honest", None]))
    assert start.order[:6] == ["flood", "flood", "honest", None, "flood", "honest"]
    assert start.order[6:] == ["flood"] * 7


async def test_who_comes_first_waits_for_no_user(turns, start):
    async def hold_first():
        async with turns.first():
            start.order.append("first")

    async with turns.of("flood"):
        waiting = [start("flood"), start("honest"), *(asyncio.create_task(hold_first()) for _ in range(2))]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert start.order == ["first", "first", "flood", "honest"]


async def test_a_cancelled_waiter_is_passed_over_and_the_lock_is_free_again(turns, start):
    async with turns.of("first"):
        waiting, cancelled = start("second"), start("third")
        await asyncio.sleep(0)
        cancelled.cancel()
    await asyncio.gather(waiting, cancelled, return_exceptions=True)
    await asyncio.wait_for(start("fourth"), WAIT_SECONDS)
    assert start.order == ["second", "fourth"]


async def test_a_waiter_that_is_cancelled_as_it_is_woken_passes_the_lock_on(turns, start):
    async with turns.of("first"):
        woken, next_one = start("second"), start("third")
        await asyncio.sleep(0)
    woken.cancel()
    await asyncio.gather(woken, next_one, return_exceptions=True)
    assert start.order == ["third"]


@pytest.mark.parametrize("url", ["http://a", "HTTPS://a", "data:x", r"\u0068ttp://a", r"x:\/\/a"])
def test_urls_are_counted_however_they_are_written(url):
    assert has_few_urls(f'["{url}"]'.encode() * (MAX_URLS // 2))
    assert not has_few_urls(f'["{url}"]'.encode() * (MAX_URLS + 1))


def test_a_text_without_urls_has_few():
    assert has_few_urls(b'["a"]' * 1000)


class SourceOfUsers:
    """Parses a body that has the name of its user and blanks."""

    name = "supabase"

    def parse(self, body):
        return CompletedGeneration(source="supabase", generation_id="1", user_id=body.decode().strip(), output=[])


async def test_a_large_event_waits_for_two_of_another_users_plans_at_most():
    planner, planned = EventPlanner(Settings()), []

    async def plan(user):
        event, _ = await planner.plan(SourceOfUsers(), user.encode().ljust(LARGE_BYTES))
        planned.append(event.user_id)

    await asyncio.gather(*map(plan, ["flood"] * 5 + ["honest"]))
    assert sorted(planned) == ["flood"] * 5 + ["honest"]
    assert planned.index("honest") <= 2
