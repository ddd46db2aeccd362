"""Thirty jobs fail for three reasons. Two are fixed in the console, and their jobs complete after a replay."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from PIL import Image

from tests.time_limits import WAIT_SECONDS
from worker.runtime import serve


class FaultySource:
    """A source: `/away` answers 503 until `fixed`, `/cut` sends half of a picture, `/fine` a whole one."""

    def __init__(self):
        self.fixed, self.url = False, ""

    async def respond(self, request):
        kind, number = request.match_info["kind"], int(request.match_info["number"])
        if kind == "away" and not self.fixed:
            return web.Response(status=503)
        content = io.BytesIO()
        Image.new("RGB", (64, 64), (number * 8, 100, 90)).save(content, "PNG")
        picture = content.getvalue()
        return web.Response(body=picture[: len(picture) // 2] if kind == "cut" else picture, content_type="image/png")


@pytest.fixture
async def source() -> AsyncIterator[FaultySource]:
    faulty, app = FaultySource(), web.Application()
    app.router.add_get("/{kind}/{number}.png", faulty.respond)
    async with serve(app, "127.0.0.1", 0) as (address,):
        faulty.url = f"http://{address}"
        yield faulty


async def wait_until(read, expected):
    async with asyncio.timeout(WAIT_SECONDS):
        while (value := await read()) != expected:
            await asyncio.sleep(0.05)
    return value


@pytest.fixture
async def thirty_failed_jobs(worker_env, source, vhost):
    """Send thirty jobs that a worker dead-letters. The bucket accepts only videos."""
    await worker_env.sql.execute("update storage.buckets set allowed_mime_types = '{video/mp4}'")
    jobs = {
        kind: [worker_env.job(f"{source.url}/{kind}/{n}.png") for n in range(10)] for kind in ("away", "cut", "fine")
    }
    for jobs_of_kind in jobs.values():
        for job in jobs_of_kind:
            await worker_env.send(job)
    await wait_until(vhost.count, 30)
    return jobs


@pytest.mark.settings(max_attempts=1)
async def test_dead_letters_are_replayed_and_completed_after_their_cause_is_fixed(
    operator, worker_env, source, vhost, thirty_failed_jobs
):
    page = operator.page

    async def completed():
        return await worker_env.sql.fetchval("select count(*) from outlast_tasks where status = 'completed'")

    await operator.open("dead")
    await operator.sign_in()
    causes = await page.locator("tbody th a").all_inner_texts()
    assert sorted(causes) == ["corrupted", "source_unavailable", "storage_rejected"]
    assert "it fails again" in await page.locator("tbody tr", has_text="corrupted").inner_text()

    await page.click("text=storage_rejected")
    assert "mime type" in await page.locator("tbody tr").first.inner_text()
    await worker_env.sql.execute("update storage.buckets set allowed_mime_types = null")
    await page.click("text=Replay all 10…")
    await page.click("main button.main")
    await page.wait_for_selector("text=10 of 10")
    await wait_until(completed, 10)
    await page.wait_for_selector("[data-live]", state="detached")
    assert await page.locator(".figures dd:not(.more)").all_inner_texts() == ["10", "0", "0"]

    source.fixed = True
    await operator.open("dead")
    await page.get_by_role("button", name="Replay 10 dead letters with code source_unavailable").click()
    assert await page.inner_text("h1") == "Replay 10 dead letters?"
    await page.fill("#rate", "3")
    await page.click("main button.main")
    seen = set()
    async with asyncio.timeout(WAIT_SECONDS):
        while await page.locator(".status.completed").count() == 0:
            seen.add(await operator.evaluate("(document.querySelector('progress') || {value: -1}).value"))
            await asyncio.sleep(0.05)
    assert len(seen - {-1, 0, 10}) >= 2, "the page showed the progress"
    await wait_until(completed, 20)
    await page.wait_for_selector("[data-live]", state="detached")
    assert await vhost.count() == 10

    await operator.open("dead")
    assert await page.locator("tbody th a").all_inner_texts() == ["corrupted"]
    await operator.open(f"tasks/{thirty_failed_jobs['away'][0].task_id}")
    assert await page.locator(".timeline .status").all_inner_texts() == ["failed", "completed"]
    assert "answered 503" in await page.locator(".timeline li").first.inner_text()
    await operator.until("[...document.images].every(image => image.complete && image.naturalWidth === 64)")
    assert await page.locator(".files img").count() == 1
