"""Keyboard operation, focus, times, and the size of the pages."""

from pathlib import Path

import pytest

from tests.console.conftest import TOKEN

MAX_PAGE_BYTES = 100_000
STATIC = Path(__file__).parents[2] / "worker" / "console" / "static"
FOCUSED_NAME = "(document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || '').trim()"
FOCUS_OUTLINE = "getComputedStyle(document.activeElement).outlineStyle"


async def tab_to(page, name):
    """Press Tab until the element whose name starts with `name` has the focus. It must show a focus outline."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if (await page.evaluate(FOCUSED_NAME)).startswith(name):
            assert await page.evaluate(FOCUS_OUTLINE) != "none", f"{name} has no focus outline"
            return
    raise AssertionError(f"{name} cannot be reached with Tab")


async def test_a_replay_can_be_done_with_the_keyboard_alone(operator, worker_env, vhost, source):
    await worker_env.worker.stop(0)
    for number in range(3):
        await vhost.dead_letter(vhost.job(f"{source.url}/{number}.png"), "source_unavailable", "503")
    page, keys = operator.page, operator.page.keyboard
    await operator.open()
    await operator.until("document.activeElement.id === 'token'")
    await keys.type(TOKEN)
    await keys.press("Tab")
    await keys.type("Ada")
    await keys.press("Enter")
    await page.wait_for_selector("nav")
    await tab_to(page, "Skip to content")
    await keys.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.reload()
    await tab_to(page, "Dead letters")
    await keys.press("Enter")
    await page.wait_for_selector("h1:has-text('Dead letters')")
    await operator.wait_until_complete()  # the page is loaded again when the dead letters have been read
    await tab_to(page, "source_unavailable")
    await keys.press("Enter")
    await page.wait_for_selector("text=Replay all 3…")
    await tab_to(page, "Select the dead letter of task")
    await keys.press("Space")
    assert await page.inner_text("[data-count]") == "1 selected"
    await keys.press("Space")
    await page.reload()
    await tab_to(page, "Replay all 3…")
    await keys.press("Enter")
    await page.wait_for_selector("h1:has-text('Replay 3 dead letters?')")
    await tab_to(page, "Replay 3")
    await keys.press("Shift+Tab")
    await keys.type("50")
    await keys.press("Enter")
    await page.wait_for_selector("text=3 of 3")
    assert len(await vhost.drain()) == 3


async def test_a_live_update_keeps_the_focus(operator, worker_env, source):
    await worker_env.worker.renew_leases()
    job = worker_env.job(f"{source.url}/files/photo.png?slow=20000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    await operator.open()
    await operator.sign_in()
    link = operator.page.get_by_role("region", name="Workers").locator("a")
    await link.focus()
    before = await link.evaluate("(element) => element.parentElement.innerText")
    await operator.until(f"!document.body.innerText.includes({before!r})")
    assert await operator.page.evaluate("document.activeElement.innerText") == str(job.task_id)[:8]


async def test_times_are_utc_as_the_filters_read_them_and_local_in_the_tooltip(operator, worker_env, vhost, source):
    await worker_env.worker.stop(0)
    await vhost.dead_letter(vhost.job(f"{source.url}/a.png"))  # at 12:00:00 UTC on the first of November
    await operator.open("dead/letters")
    await operator.sign_in()
    time = operator.page.locator("tbody time").first
    shown, tooltip = await time.inner_text(), await time.get_attribute("title")
    assert "12:00:00 UTC" in shown
    assert tooltip.startswith("2026-11-01 12:00:00 UTC\n")
    assert "1:00:00 PM" in tooltip
    await operator.page.click("summary:has-text('Filter')")
    await operator.page.get_by_label("Failed since (UTC)").fill(shown)
    await operator.page.get_by_label("Failed until (UTC)").fill(shown)
    await operator.page.get_by_role("button", name="Filter").click()
    await operator.page.wait_for_url("**since=*")
    assert await operator.page.locator("tbody tr").count() == 1


@pytest.mark.parametrize("path", ["dead/letters", "tasks"])
async def test_a_filter_that_is_not_valid_stays_in_the_form_with_a_message(operator, path):
    await operator.open(path)
    await operator.sign_in()
    await operator.page.click("summary:has-text('Filter')")
    field = operator.page.locator("[name=since]")
    await field.fill("soon")
    await operator.page.get_by_role("button", name="Filter").click()
    message = await operator.page.get_by_role("alert").inner_text()
    assert "since: is not a date or time; write for example" in message
    assert await field.input_value() == "soon"
    assert await operator.page.evaluate("document.activeElement.name") == "since"


@pytest.fixture
async def many_rows(worker_env, vhost):
    """Fill each page completely, with long texts; return the job of a task with 90 files."""
    await worker_env.worker.stop(0)
    long, sql = "a long text " * 200, worker_env.sql
    job = worker_env.job("https://fal.media/a.png")
    for n in range(70):
        await vhost.dead_letter(
            vhost.job(f"https://h{n}.example/a.png", generation_id=f"{n}" * 60), f"code{n}", long, "download"
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


async def test_no_page_is_larger_than_100_kilobytes(operator, worker_env, many_rows):
    await operator.open()
    await operator.sign_in()
    static = sum(file.stat().st_size for file in STATIC.iterdir())
    operation = await worker_env.sql.fetchval("select id from outlast_operations limit 1")
    sizes = {}
    for path in (
        *("", "tasks", "dead", "dead/letters", "dead/confirm?verb=replay", "dead/archive", "history"),
        *(
            f"tasks/{many_rows.task_id}",
            f"tasks/{many_rows.task_id}?from=24",
            f"history/{operation}",
            f"generations/{'g' * 200}",
        ),
    ):
        await operator.open(path)
        sizes[path] = len(await (await operator.load(path)).body()) + static
    assert {path: size for path, size in sizes.items() if size > MAX_PAGE_BYTES} == {}
    assert await operator.page.locator("tbody tr").count() == 20
    await operator.open(f"tasks/{many_rows.task_id}")
    seen = await operator.page.locator(".files li").count()
    while await operator.page.locator("a[rel=next]").count():
        await operator.page.click("a[rel=next]")
        await operator.page.wait_for_url("**from=**")
        seen += await operator.page.locator(".files li").count()
    assert seen == 90
