"""Manners: everything by keyboard alone, local times, a weight that a phone bears."""

from pathlib import Path

import pytest

from tests.console.conftest import TOKEN

HEAVIEST = 100_000
STATIC = Path(__file__).parents[2] / "worker" / "console" / "static"
HERE = "(document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || '').trim()"
RING = "getComputedStyle(document.activeElement).outlineStyle"


async def go(page, wanted):
    """Press Tab until what is wanted has the focus; every stop on the way shows that it has it."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if (await page.evaluate(HERE)).startswith(wanted):
            assert await page.evaluate(RING) != "none", f"{wanted} shows no focus"
            return
    raise AssertionError(f"{wanted} cannot be reached by Tab")


async def test_a_replay_by_keyboard_alone(operator, bench, yard, source):
    await bench.worker.stop(0)
    for number in range(3):
        await yard.bury(yard.job(f"{source.url}/{number}.png"), "source_unavailable", "503")
    page, keys = operator.page, operator.page.keyboard
    await operator.open()
    await operator.until("document.activeElement.id === 'token'")
    await keys.type(TOKEN)
    await keys.press("Tab")
    await keys.type("Ada")
    await keys.press("Enter")
    await page.wait_for_selector("nav")
    await go(page, "Skip to the content")
    await keys.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.reload()
    await go(page, "Dead letters")
    await keys.press("Enter")
    await page.wait_for_selector("h1:has-text('Dead letters')")
    await go(page, "source_unavailable")
    await keys.press("Enter")
    await page.wait_for_selector("text=Replay all 3…")
    await go(page, "Select the letter of task")
    await keys.press("Space")
    assert await page.inner_text("[data-count]") == "1 selected"
    await keys.press("Space")
    await page.reload()
    await go(page, "Replay all 3…")
    await keys.press("Enter")
    await page.wait_for_selector("h1:has-text('Replay 3 letters?')")
    await go(page, "Replay 3")
    await keys.press("Shift+Tab")
    await keys.type("50")
    await keys.press("Enter")
    await page.wait_for_selector("text=3 of 3")
    assert len(await yard.drain()) == 3


async def test_a_page_that_lives_takes_no_focus_away(operator, bench, source):
    await bench.worker.renew()
    job = bench.job(f"{source.url}/files/photo.png?slow=20000")
    await bench.send(job)
    await bench.running()
    await operator.open()
    await operator.sign_in()
    link = operator.page.get_by_role("region", name="Workers").locator("a")
    await link.focus()
    told = await link.evaluate("(one) => one.parentElement.innerText")
    await operator.until(f"!document.body.innerText.includes({told!r})")
    assert await operator.page.evaluate("document.activeElement.innerText") == str(job.task_id)[:8]


async def test_times_are_local_and_utc_on_hover(operator, bench, yard, source):
    await bench.worker.stop(0)
    await yard.bury(yard.job(f"{source.url}/a.png"))  # at 12:00:00 UTC on the first of November
    await operator.open("dead/letters")
    await operator.sign_in()
    time = operator.page.locator("tbody time").first
    assert "1:00:00 PM" in await time.inner_text()
    assert (await time.get_attribute("title")).startswith("2026-11-01 12:00:00 UTC\n")


@pytest.fixture
async def crowd(bench, yard):
    """As much on each page as it can hold, with long texts."""
    await bench.worker.stop(0)
    long, sql = "a long text " * 200, bench.sql
    job = bench.job("https://fal.media/a.png")
    for n in range(70):
        await yard.bury(
            yard.job(f"https://h{n}.example/a.png", generation_id=f"{n}" * 60), f"code{n}", long, "download"
        )
    await sql.execute(
        "insert into outlast_tasks (task_id, generation_id, user_id, status, queue, error, error_code, failed)"
        " select case i when 1 then $1 else gen_random_uuid() end, $2, $2, 'failed', 'file_processing.bulk', $3, $4, $5"
        " from generate_series(1, 70) i",
        *(job.task_id, "g" * 200, long, "c" * 200, "[]"),
    )
    await sql.execute(
        "insert into outlast_attempts (task_id, attempt, status, worker, code, error, stage, host, began_at, ended_at)"
        " select $1, i, 'retrying', 'worker', 'storage_unavailable', $2, 'upload', 'v3.fal.media', now(), now()"
        " from generate_series(1, 50) i",
        *(job.task_id, long[:1000]),
    )
    await sql.execute(
        "insert into outlast_files (id, generation_id, source_key, task_id, original_filename, content_type, bucket,"
        " path, original_size, file_size, width, height, position) select gen_random_uuid(), $2, i::text, $1, $3,"
        " 'image/png', 'generations', 'user/' || repeat('a', 64) || i, 99999, 9999, 1024, 1024, i"
        " from generate_series(1, 90) i",
        *(job.task_id, "g" * 200, long[:255]),
    )
    await sql.execute(
        "insert into outlast_operations (id, verb, by, target, state, matched, kept) select gen_random_uuid(),"
        " 'replay', 'Ada', '{}', 'done', 100, (select jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'reason',"
        " repeat('why ', 40))) from generate_series(1, 100)) from generate_series(1, 70)"
    )
    await sql.execute(
        "insert into outlast_dead_archive (id, task_id, code, item, body, gone_after) select gen_random_uuid(),"
        " gen_random_uuid(), 'corrupted', jsonb_build_object('error', $1::text), '', now() + interval '1 d'"
        " from generate_series(1, 70)",
        long,
    )
    return job


async def test_no_page_weighs_more_than_a_hundred_kilobytes(operator, bench, crowd):
    await operator.open()
    await operator.sign_in()
    static = sum(file.stat().st_size for file in STATIC.iterdir())
    operation = await bench.sql.fetchval("select id from outlast_operations limit 1")
    weights = {}
    for path in (
        *("", "tasks", "dead", "dead/letters", "dead/confirm?verb=replay", "dead/archive", "history"),
        *(
            f"tasks/{crowd.task_id}",
            f"tasks/{crowd.task_id}?from=24",
            f"history/{operation}",
            f"generations/{'g' * 200}",
        ),
    ):
        weights[path] = len(await (await operator.open(path)).body()) + static
    assert {path: weight for path, weight in weights.items() if weight > HEAVIEST} == {}
    assert await operator.page.locator("tbody tr").count() == 20
    await operator.open(f"tasks/{crowd.task_id}")
    seen = await operator.page.locator(".files li").count()
    while await operator.page.locator("a[rel=next]").count():
        await operator.page.click("a[rel=next]")
        await operator.page.wait_for_url("**from=**")
        seen += await operator.page.locator(".files li").count()
    assert seen == 90
