"""Pages are answered before their data is read: they say so, and complete themselves."""

import asyncio

import pytest

from handlers.database.console_queries import ConsoleQueries
from tests.console.conftest import INCOMPLETE, TOKEN, another_operator, signed_in
from tests.console.test_console_accessibility import violations
from tests.time_limits import WAIT_SECONDS

READING = "The dead letters are being read from the queue"
NOT_RELOADED = "window.marker === 1"
PAGES = {
    "dead": "text=10 dead letters in 2 groups",
    "dead/letters?code=corrupted": "text=5 dead letters match the filter",
    "dead/confirm?verb=replay": "h1:has-text('Replay 10 dead letters?')",
}


@pytest.fixture
async def ten(worker_env, vhost, source):
    """Ten dead letters, and no worker."""
    await worker_env.worker.stop(0)
    for number in range(10):
        await vhost.dead_letter(vhost.job(f"{source.url}/{number}.png"), ("corrupted", "source_gone")[number % 2])
    return vhost


@pytest.fixture
async def signed(operator):
    """An operator who is signed in and has not opened a page of dead letters."""
    await operator.open("history")
    await operator.sign_in()
    return operator


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_answered_while_the_queue_cannot_be_read_and_completes_itself(signed, ten, path):
    async with ten.dead_letters.open():
        assert (await signed.load(path)).status == 200
        assert READING in await signed.page.inner_text("main")
        assert await signed.page.locator("tbody, form.actions").count() == 0
        assert await violations(signed.page) == []
    await signed.page.wait_for_selector(PAGES[path])
    assert signed.page.url == signed.url + path


async def test_a_page_shows_why_the_queue_could_not_be_read_and_completes_itself(signed, ten, monkeypatch):
    monkeypatch.setattr("worker.dead_letters.queue_lock.LOCK_WAIT_SECONDS", 0.5)
    async with ten.dead_letters.open():
        await signed.load("dead")
        await signed.page.wait_for_selector("text=another operator is using the dead letters")
    await signed.page.wait_for_selector(PAGES["dead"])


async def test_without_javascript_the_page_of_progress_is_reloaded_by_a_link(chromium, console, ten):
    async with another_operator(chromium, console, java_script_enabled=False) as operator:
        await operator.open("history")
        await operator.sign_in()
        async with ten.dead_letters.open():
            await operator.load("dead/letters?code=corrupted")
            assert READING in await operator.page.inner_text("main")
        async with asyncio.timeout(WAIT_SECONDS):
            while await operator.page.locator(INCOMPLETE).count():
                await operator.page.click("main noscript a")
        assert await operator.page.locator("tbody tr").count() == 5


@pytest.mark.parametrize(("path", "rows"), [("dead", 2), ("dead/letters", 10)])
async def test_a_list_that_is_no_longer_complete_says_so_and_completes_itself(signed, ten, path, rows):
    await signed.open(path)
    assert await signed.page.locator("tbody tr").count() == rows
    async with ten.dead_letters.open():
        await ten.dead_letter(ten.job("https://fal.media/new.png"), "undecodable")
        await signed.load(path)
        assert "the queue may have changed since" in await signed.page.inner_text("main")
        assert await signed.page.locator("tbody tr").count() == rows
        assert await violations(signed.page) == []
        await signed.page.evaluate("window.marker = 1")
    await signed.page.wait_for_selector("tbody >> text=undecodable")
    await signed.page.locator(INCOMPLETE).wait_for(state="detached")
    assert await signed.page.locator("tbody tr").count() == rows + 1
    assert await signed.page.evaluate(NOT_RELOADED)


@pytest.mark.parametrize("path", ["dead/live", "dead/letters/live"])
async def test_an_update_after_a_restart_of_the_receiver_does_not_say_that_there_are_no_dead_letters(
    console, ten, path
):
    async with signed_in(console, TOKEN) as (session, _):
        async with ten.dead_letters.open(), asyncio.timeout(WAIT_SECONDS):
            answer = await session.get(f"{console}{path}")
            html = await answer.content.readuntil(b"\r\n\r\n")
        assert READING in html.decode()
        async with asyncio.timeout(WAIT_SECONDS):
            while "10 dead letters" not in html.decode():
                html = await answer.content.readuntil(b"\r\n\r\n")
        answer.close()


async def test_the_first_page_is_answered_before_the_figures_are_counted(signed, monkeypatch):
    counted, overview = asyncio.Event(), ConsoleQueries.overview

    async def late(queries):
        await counted.wait()
        return await overview(queries)

    monkeypatch.setattr(ConsoleQueries, "overview", late)
    await signed.load()
    assert "The figures are being counted" in await signed.page.inner_text("main")
    assert await signed.page.locator(".figures, .alerts").count() == 0
    assert await violations(signed.page) == []
    await signed.page.evaluate("window.marker = 1")
    counted.set()
    await signed.page.wait_for_selector(".figures >> text=Backlog")
    assert await signed.page.evaluate(NOT_RELOADED)
