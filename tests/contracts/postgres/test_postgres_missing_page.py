"""`outlast_missing_page`: everything that is missing is on exactly one page, and pages are limited in bytes."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]


async def pages(db: Any, **arguments: Any) -> AsyncIterator[list[dict[str, Any]]]:
    place = None
    while True:
        page = await db.call("outlast_missing_page", p_after=place, **arguments)
        yield page["entries"]
        place = page["next"]
        if place is None:
            return


async def test_every_entry_is_on_one_page_whatever_its_time_and_size(db: Any, make_job: Make) -> None:
    await db.run(
        "insert into public.generations (status, output, created_at)"
        " select 'completed', to_jsonb(repeat('x', n * 1000)), case n % 5 when 0 then null when 1 then '-infinity'"
        " when 2 then 'infinity' else timestamptz '2026-01-01' end from generate_series(1, 40) n"
    )
    generation = await db.generation()
    tasks = [make_job(generation, ["a", "b"][part : part + 1], first=part, all_keys=["a", "b"]) for part in range(2)]
    for job in (*tasks, make_job(None, ["c"], request_id="r", source="fal")):
        await db.call("outlast_enqueue", p_job=job)
    found = []
    async for page in pages(db, p_limit=7, p_idle_seconds=-1, p_page_bytes=60_000):
        assert len(page) == 1 or sum(len(entry["output_json"] or "") for entry in page) <= 60_000
        assert len(page) <= 7
        found += page
    assert len({(entry["generation_id"], entry["task_id"]) for entry in found}) == len(found) == 43
    dated = [entry["created_at"] for entry in found if entry["reason"] == "no_task"]
    assert {moment for moment in dated if moment} == {"2026-01-01T00:00:00+00:00"}
    assert [entry["same_output"] for entry in found if entry["generation_id"] == generation] == [False, True]


async def test_an_output_that_is_too_large_is_left_out(db: Any) -> None:
    for size in (10, 10_000):
        await db.run("insert into public.generations (status, output) values ('completed', $1)", "x" * size)
    (page,) = [page async for page in pages(db, p_output_bytes=5_000)]
    assert sorted((entry["output_json"] is None, entry["output_bytes"]) for entry in page) == [
        (False, 12),
        (True, 10_002),
    ]


@pytest.mark.parametrize("since", [None, "2026-01-01"])
async def test_until_leaves_out_younger_rows_but_not_those_of_the_far_future(db: Any, since: str | None) -> None:
    young = await db.value("select (now() + interval '1 hour')::text")
    for moment in ("2026-01-01", young, "infinity", "12026-01-01"):
        await db.run(
            "insert into public.generations (status, output, created_at)"
            " values ('completed', '{}', $1::text::timestamptz)",
            moment,
        )
    moments = {"p_until": await db.value("select now()")}
    if since is not None:
        moments["p_since"] = await db.value("select $1::text::timestamptz", since)
    (page,) = [page async for page in pages(db, **moments)]
    assert sorted(entry["created_at"] or "" for entry in page) == ["", "", "2026-01-01T00:00:00+00:00"]
