"""The first page, and live updates of pages."""

import contextlib

import pytest
from pydantic import SecretStr

from handlers.database.task_records import task_row
from tests.console.conftest import TOKEN, Operator
from worker.broker.connection import Broker
from worker.runtime import serve
from worker.web.receiver import Receiver

NOT_RELOADED = "window.marker === 1"
WARNING = ".alerts .banner"


@pytest.fixture
async def now(operator, worker_env):
    """Return an operator on the first page of a healthy system. A marker in the page shows whether it was reloaded."""
    await worker_env.worker.renew_leases()
    await operator.open()
    await operator.sign_in()
    assert await operator.page.locator(".banner:visible").all_inner_texts() == []
    await operator.page.evaluate("window.marker = 1")
    return operator


async def test_running_tasks_and_their_worker_appear_without_a_reload(now, worker_env, source):
    job = worker_env.job(f"{source.url}/files/photo.png?slow=20000", f"{source.url}/files/tone.mp3")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    row = now.page.get_by_role("region", name="Workers").locator("tbody tr")
    await row.locator("a", has_text=str(job.task_id)[:8]).wait_for()
    assert "test-worker" in await row.inner_text()
    assert " for " in await row.inner_text()
    await row.get_by_text("1 of 2 files").wait_for()
    figures = await now.page.locator(".figures dt").all_inner_texts()
    assert figures == ["Backlog", "Running", "Throughput", "Age", "Success", "Saved"]
    assert await now.page.locator(".figures svg[role=img]").count() == 4
    assert await now.page.evaluate(NOT_RELOADED)


async def test_a_warning_shows_while_no_worker_reports(now, worker_env):
    await worker_env.sql.execute("update outlast_workers set last_seen = now() - interval '5 min'")
    await now.page.wait_for_selector(WARNING)
    assert "No worker has reported for a minute" in await now.page.inner_text(WARNING)
    await worker_env.worker.renew_leases()
    await now.page.locator(WARNING).wait_for(state="detached")
    assert await now.page.evaluate(NOT_RELOADED)


async def test_warnings_show_while_storage_does_not_answer_and_workers_pause(now, worker_env, source):
    await worker_env.sql.execute("set role none; alter schema storage rename to storage_away")
    await now.page.wait_for_selector(f"{WARNING}:has-text('Storage')")
    await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
    await worker_env.wait_for_outcome("retried_uncounted")
    await worker_env.worker.renew_leases()
    await now.page.wait_for_selector(f"{WARNING}:has-text('test-worker is paused: storage')")
    await worker_env.sql.execute("set role none; alter schema storage_away rename to storage")
    await worker_env.wait_for_outcome("completed")
    await worker_env.worker.renew_leases()
    await now.page.locator(WARNING).first.wait_for(state="detached")
    assert await now.page.locator(f"{WARNING}:has-text('Storage')").count() == 0


async def test_a_warning_shows_while_the_database_does_not_answer(now, worker_env):
    await worker_env.gateway.stop()
    await now.page.wait_for_selector(f"{WARNING}:has-text('Database')")
    assert "file_processing" in await now.page.inner_text("main")
    assert (await now.open("tasks")).status == 503
    assert "The database does not answer" in await now.page.inner_text("main")
    await worker_env.gateway.start()


async def test_a_warning_shows_while_the_broker_is_not_connected(chromium, worker_env):
    await worker_env.worker.renew_leases()
    settings = worker_env.settings.model_copy(update={"console_token": SecretStr(TOKEN)})
    app = Receiver(
        settings, [], Broker(settings, worker_env.metrics, "away"), worker_env.metrics, worker_env.parts.supabase
    ).app()
    async with serve(app, "127.0.0.1", 0) as (address,), contextlib.AsyncExitStack() as stack:
        context = await chromium.new_context()
        stack.push_async_callback(context.close)
        operator = Operator(await context.new_page(), f"http://{address}/console/")
        await operator.open()
        await operator.sign_in()
        assert await operator.page.inner_text(WARNING) == "RabbitMQ: not connected"
        assert "test-worker" in await operator.page.inner_text("main")


async def test_the_page_of_a_task_is_updated_until_the_task_ends(operator, worker_env, source):
    job = worker_env.job(f"{source.url}/files/photo.png?slow=900000")
    await worker_env.parts.supabase.call("outlast_enqueue", {"p_job": task_row(job)})
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    await operator.page.evaluate("window.marker = 1")
    assert await operator.page.inner_text(".facts .status") == "queued"
    async with operator.page.expect_response("**/live?from=0") as stream:
        await operator.page.reload()
    assert (await (await stream.value).all_headers())["content-type"] == "text/event-stream"
    await operator.page.evaluate("window.marker = 1")
    await worker_env.send(job)
    await operator.page.wait_for_selector(".facts .status.running")
    assert await operator.page.evaluate(NOT_RELOADED)
    await operator.page.wait_for_selector(".timeline .completed")
    await operator.page.wait_for_selector(".files img")


async def test_a_page_shows_when_it_is_no_longer_updated(now):
    await now.page.route("**/now/live", lambda route: route.abort())
    await now.page.reload()
    await now.page.wait_for_selector("text=The receiver cannot be reached")
    await now.page.route("**/now/live", lambda route: route.fulfill(status=401))
    await now.page.reload()
    await now.page.wait_for_selector("text=This page no longer updates")
    assert await now.page.locator("text=The receiver cannot be reached").count() == 0
    await now.page.unroute_all()
