"""Thirty jobs fail of three causes; two are mended, and what failed of them comes home after all."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from PIL import Image

from tests.patience import SOON
from worker.runtime import serve


class Moody:
    """A source with a bad day: `/away` answers 503 until it is mended, `/cut` breaks off, `/fine` is fine."""

    def __init__(self):
        self.mended, self.url = False, ""

    async def answer(self, request):
        kind, number = request.match_info["kind"], int(request.match_info["number"])
        if kind == "away" and not self.mended:
            return web.Response(status=503)
        content = io.BytesIO()
        Image.new("RGB", (64, 64), (number * 8, 100, 90)).save(content, "PNG")
        whole = content.getvalue()
        return web.Response(body=whole[: len(whole) // 2] if kind == "cut" else whole, content_type="image/png")


@pytest.fixture
async def source() -> AsyncIterator[Moody]:
    moody, app = Moody(), web.Application()
    app.router.add_get("/{kind}/{number}.png", moody.answer)
    async with serve(app, "127.0.0.1", 0) as (address,):
        moody.url = f"http://{address}"
        yield moody


async def until(look, wanted):
    async with asyncio.timeout(SOON):
        while (found := await look()) != wanted:
            await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def thirty(bench, source, yard):
    """Thirty real jobs that a real worker gave up, after the bucket was told to take films only."""
    await bench.sql.execute("update storage.buckets set allowed_mime_types = '{video/mp4}'")
    jobs = {kind: [bench.job(f"{source.url}/{kind}/{n}.png") for n in range(10)] for kind in ("away", "cut", "fine")}
    for some in jobs.values():
        for job in some:
            await bench.send(job)
    await until(yard.count, 30)
    return jobs


@pytest.mark.settings(max_attempts=1)
async def test_the_cause_is_mended_and_what_failed_of_it_drains_and_comes_home(operator, bench, source, yard, thirty):
    page = operator.page

    async def completed():
        return await bench.sql.fetchval("select count(*) from outlast_tasks where status = 'completed'")

    await operator.open("dead")
    await operator.sign_in()
    causes = await page.locator("tbody th a").all_inner_texts()
    assert sorted(causes) == ["corrupted", "source_unavailable", "storage_rejected"]
    assert "it fails again" in await page.locator("tbody tr", has_text="corrupted").inner_text()

    await page.click("text=storage_rejected")
    assert "mime type" in await page.locator("tbody tr").first.inner_text()
    await bench.sql.execute("update storage.buckets set allowed_mime_types = null")
    await page.click("text=Replay all 10…")
    await page.click("main button.main")
    await page.wait_for_selector("text=10 of 10")
    await until(completed, 10)

    source.mended = True
    await operator.open("dead")
    await page.get_by_role("button", name="Replay the 10 of source_unavailable").click()
    assert await page.inner_text("h1") == "Replay 10 letters?"
    await page.fill("#rate", "3")
    await page.click("main button.main")
    seen = set()
    async with asyncio.timeout(SOON):
        while await page.locator(".status.completed").count() == 0:
            seen.add(await page.evaluate("(document.querySelector('progress') || {value: -1}).value"))
            await asyncio.sleep(0.05)
    assert len(seen - {-1, 0, 10}) >= 2, "the page showed it drain"
    await until(completed, 20)
    assert await yard.count() == 10

    await operator.open("dead")
    assert await page.locator("tbody th a").all_inner_texts() == ["corrupted"]
    await operator.open(f"tasks/{thirty['away'][0].task_id}")
    assert await page.locator(".timeline .status").all_inner_texts() == ["failed", "completed"]
    assert "answered 503" in await page.locator(".timeline li").first.inner_text()
    await operator.until("[...document.images].every(one => one.complete && one.naturalWidth === 64)")
    assert await page.locator(".files img").count() == 1
