"""Tasks: a running one cancelled, a stored picture looked at; and every page sound for every reader."""

import asyncio

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.console.conftest import somebody_else

SERIOUS = {"serious", "critical"}
LOOKS = [(1280, 800, "light"), (1280, 800, "dark"), (390, 800, "light"), (390, 800, "dark")]


async def test_a_running_task_is_cancelled_and_says_so(operator, bench, source):
    job = bench.job(f"{source.url}/files/photo.png?slow=20000")
    await bench.send(job)
    await bench.running()
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    assert await operator.page.locator(".timeline .running").count() > 0
    await operator.page.click("text=Cancel this task")
    await operator.page.wait_for_selector(".timeline .cancelled")
    assert (await bench.task(job))["status"] == "cancelled"
    await bench.outcome("cancelled")


async def test_a_page_keeps_up_by_itself(operator, bench, source):
    job = bench.job(f"{source.url}/files/photo.png?slow=2000")
    await bench.send(job)
    await bench.running()
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    await operator.page.wait_for_selector(".timeline .completed")
    picture = operator.page.locator(".files img")
    await picture.scroll_into_view_if_needed()
    await operator.until("document.querySelector('.files img').naturalWidth > 0")


async def test_tasks_are_found_by_what_is_known_of_them_and_paged(operator, bench):
    await bench.crew.stop(0)
    await bench.sql.execute(
        "insert into outlast_tasks (task_id, generation_id, user_id, status, queue, created_at)"
        " select gen_random_uuid(), 'g' || i, 'u' || i % 2, 'queued', 'file_processing', now() - i * interval '1 s'"
        " from generate_series(1, 120) i"
    )
    await operator.open("tasks")
    await operator.sign_in()
    seen = []
    for _ in range(3):
        seen += await operator.page.locator("tbody td:nth-child(4)").all_inner_texts()
        older = operator.page.locator("a[rel=next]")
        if await older.count():
            await older.click()
            await operator.page.wait_for_url("**before=**")
    assert sorted(seen) == sorted(f"g{number}" for number in range(1, 121))
    for query, count in (("q=g7", 1), ("q=u1", 50), ("status=failed", 0), ("since=2999-01-01", 0), ("queue=bulk", 0)):
        await operator.open(f"tasks?{query}")
        assert await operator.page.locator("tbody tr").count() == count
    assert (await operator.open("tasks?since=yesterday")).status == 422


@pytest.mark.parametrize(("width", "height", "scheme"), LOOKS)
async def test_no_page_has_a_serious_fault(chromium, console, bench, yard, source, width, height, scheme):
    job = bench.job(f"{source.url}/files/photo.png", f"{source.url}/files/tone.wav", f"{source.url}/files/none.png")
    await bench.send(job)
    await bench.outcome("dead")
    await yard.bury(yard.job("https://fal.media/a.png"))
    size = {"width": width, "height": height}
    async with somebody_else(chromium, console, viewport=size, color_scheme=scheme) as operator:
        await operator.open()
        faults = await serious(operator.page)
        await operator.sign_in()
        paths = ("", "tasks", f"tasks/{job.task_id}", "dead", "dead/letters", "dead/confirm?verb=replay")
        for path in (*paths, "dead/archive", "history"):
            answer = await operator.open(path)
            assert len(await answer.body()) < 100_000
            faults += [f"{path}: {one}" for one in await serious(operator.page)]
            name = path.partition("?")[0].replace(str(job.task_id), "one").replace("/", "-") or "now"
            await operator.shoot(f"{name}-{width}-{scheme}")
            spill = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await operator.page.evaluate(spill) <= 0, path
    assert faults == []


async def serious(page):
    async with asyncio.timeout(30):
        found = await Axe().run(page)
    return [
        f"{one['id']} {node['target']}"
        for one in found.response["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
