"""The first page, and pages that keep up by themselves."""

import contextlib

import pytest
from pydantic import SecretStr

from handlers.database.task_records import task_row
from tests.console.conftest import TOKEN, Operator
from worker.broker.connection import Broker
from worker.runtime import serve
from worker.web.receiver import Receiver

UNTOUCHED = "window.untouched === 1"
ALARM = ".alarms .banner"


@pytest.fixture
async def now(operator, bench):
    """The page of a healthy system, marked so that loading it again would be noticed."""
    await bench.worker.renew()
    await operator.open()
    await operator.sign_in()
    assert await operator.page.locator(".banner:visible").count() == 0
    await operator.page.evaluate("window.untouched = 1")
    return operator


async def test_what_runs_and_who_does_it_appears_by_itself(now, bench, source):
    job = bench.job(f"{source.url}/files/photo.png?slow=20000", f"{source.url}/files/tone.mp3")
    await bench.send(job)
    await bench.running()
    row = now.page.get_by_role("region", name="Workers").locator("tbody tr")
    await row.locator("a", has_text=str(job.task_id)[:8]).wait_for()
    assert "bench" in await row.inner_text()
    assert " for " in await row.inner_text()
    await row.get_by_text("1 of 2 files").wait_for()
    figures = await now.page.locator(".figures dt").all_inner_texts()
    assert figures == ["Backlog", "Running", "Throughput", "Age", "Success", "Saved"]
    assert await now.page.locator(".figures svg[role=img]").count() == 4
    assert await now.page.evaluate(UNTOUCHED)


async def test_the_page_says_when_no_worker_is_left_and_stops_when_one_is_back(now, bench):
    await bench.sql.execute("update outlast_workers set last_seen = now() - interval '5 min'")
    await now.page.wait_for_selector(ALARM)
    assert "No worker has been heard of" in await now.page.inner_text(ALARM)
    await bench.worker.renew()
    await now.page.locator(ALARM).wait_for(state="detached")
    assert await now.page.evaluate(UNTOUCHED)


async def test_storage_that_is_away_and_the_workers_that_pause_for_it_are_said(now, bench, source):
    await bench.sql.execute("alter schema storage rename to storage_away")
    await now.page.wait_for_selector(f"{ALARM}:has-text('Storage')")
    await bench.send(bench.job(f"{source.url}/files/tone.wav"))
    await bench.outcome("excused")
    await bench.worker.renew()
    await now.page.wait_for_selector(f"{ALARM}:has-text('bench is paused: storage')")
    await bench.sql.execute("alter schema storage_away rename to storage")
    await bench.outcome("completed")
    await bench.worker.renew()
    await now.page.locator(ALARM).first.wait_for(state="detached")
    assert await now.page.locator(f"{ALARM}:has-text('Storage')").count() == 0


async def test_a_database_that_is_away_is_said_and_the_rest_is_shown(now, bench):
    await bench.gateway.stop()
    await now.page.wait_for_selector(f"{ALARM}:has-text('Database')")
    assert "file_processing" in await now.page.inner_text("main")
    assert (await now.open("tasks")).status == 503
    assert "The database gives no answer" in await now.page.inner_text("main")
    await bench.gateway.start()


async def test_a_broker_that_is_away_is_said_and_the_rest_is_shown(chromium, bench):
    await bench.worker.renew()
    settings = bench.settings.model_copy(update={"console_token": SecretStr(TOKEN)})
    app = Receiver(settings, [], Broker(settings, bench.metrics, "away"), bench.metrics, bench.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as (address,), contextlib.AsyncExitStack() as stack:
        context = await chromium.new_context()
        stack.push_async_callback(context.close)
        operator = Operator(await context.new_page(), f"http://{address}/console/")
        await operator.open()
        await operator.sign_in()
        assert await operator.page.inner_text(ALARM) == "RabbitMQ: not connected"
        assert "bench" in await operator.page.inner_text("main")


async def test_a_tasks_page_follows_it_to_its_end(operator, bench, source):
    job = bench.job(f"{source.url}/files/photo.png?slow=900000")
    await bench.parts.supabase.call("outlast_enqueue", {"p_job": task_row(job)})
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    await operator.page.evaluate("window.untouched = 1")
    assert await operator.page.inner_text(".facts .status") == "queued"
    async with operator.page.expect_response("**/live?from=0") as stream:
        await operator.page.reload()
    assert (await (await stream.value).all_headers())["content-type"] == "text/event-stream"
    await operator.page.evaluate("window.untouched = 1")
    await bench.send(job)
    await operator.page.wait_for_selector(".facts .status.running")
    assert await operator.page.evaluate(UNTOUCHED)
    await operator.page.wait_for_selector(".timeline .completed")
    await operator.page.wait_for_selector(".files img")


async def test_a_page_says_when_it_is_no_longer_live(now):
    await now.page.route("**/now/live", lambda route: route.abort())
    await now.page.reload()
    await now.page.wait_for_selector("text=The receiver cannot be reached")
    await now.page.route("**/now/live", lambda route: route.fulfill(status=401))
    await now.page.reload()
    await now.page.wait_for_selector("text=This page is no longer live")
    assert await now.page.locator("text=The receiver cannot be reached").count() == 0
    await now.page.unroute_all()
