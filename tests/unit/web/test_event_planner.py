"""The planner of events: which ones it plans in a thread, and in whose turn."""

import asyncio

import pytest

from schemas.events import CompletedGeneration
from worker.settings import Settings
from worker.web.event_planner import LARGE_BYTES, MAX_URLS, EventPlanner, has_few_urls


@pytest.mark.parametrize("url", ["http://a", "HTTPS://a", "data:x", r"\u0068ttp://a", r"x:\/\/a"])
def test_urls_are_counted_however_they_are_written(url):
    assert has_few_urls(f'["{url}"]'.encode() * (MAX_URLS // 2))
    assert not has_few_urls(f'["{url}"]'.encode() * (MAX_URLS + 1))


@pytest.mark.parametrize("url", ["https://a", r"https:\/\/a", "data:x"])
def test_a_url_that_contains_several_signs_of_one_counts_once(url):
    assert has_few_urls(f'["{url}"]'.encode() * MAX_URLS)
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
