"""Who gets in, who may act, and what a stranger's text can do."""

import asyncio
import time
from dataclasses import replace

import aiohttp
import pytest
from yarl import URL

from handlers.database.task_records import task_row
from tests.console.conftest import READ_TOKEN, TOKEN, somebody_else
from tests.patience import SOON
from worker.console.session import Sessions
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver


async def test_ten_wrong_tokens_are_slowed_down_and_the_right_one_works_afterwards(operator):
    await operator.open()
    said = []
    for _ in range(10):
        await operator.sign_in("wrong")
        said.append(await operator.page.inner_text("[role=alert]"))
    assert said[0] == "That is not the token."
    assert any("Too many wrong attempts" in one for one in said[5:])
    async with asyncio.timeout(SOON):
        while await operator.page.locator("nav").count() == 0:
            await operator.sign_in()
    assert await operator.page.inner_text("h1") == "Now"
    (cookie,) = await operator.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    await operator.page.click("text=Sign out")
    assert await operator.page.inner_text("h1") == "Sign in"


async def test_a_reader_sees_and_cannot_act(operator, bench):
    await bench.worker.stop(0)
    job = bench.job("https://fal.media/a.png")
    await bench.parts.supabase.call("outlast_enqueue", {"p_job": task_row(job)})
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in(READ_TOKEN)
    assert "read only" in await operator.page.inner_text("header")
    assert await operator.page.locator("main button").count() == 0
    answer = await operator.page.evaluate(
        "async () => (await fetch(location.href + '/cancel', {method: 'POST', body: new URLSearchParams("
        "{form_token: document.querySelector('[name=form_token]').value})})).status"
    )
    assert answer == 403
    assert (await bench.task(job))["status"] == "queued"


async def test_a_form_without_its_token_or_from_another_site_does_nothing(console):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.post(f"{console}sign-in", data={"token": TOKEN}) as answer:
            assert answer.status == 200
        async with session.post(f"{console}dead/run", data={"verb": "replay"}) as answer:
            assert answer.status == 403
        evil = {"Origin": "https://evil.example"}
        async with session.post(f"{console}sign-in", data={"token": TOKEN}, headers=evil) as answer:
            assert answer.status == 403
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


async def test_without_a_token_the_console_is_closed(bench):
    app = Receiver(bench.settings, [], bench.broker, bench.metrics, bench.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as (address,), aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/console") as answer:
            assert answer.status == 403
            assert "set CONSOLE_TOKEN" in await answer.text()
        async with session.post(f"http://{address}/console/sign-in", data={"token": ""}) as answer:
            assert answer.status == 403


def test_a_session_ends_with_its_time_its_signing_out_and_its_tokens(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sessions = Sessions(Settings.load(console_token="a", console_session_hours=1))
    session = sessions.begin("a", "Ada")
    cookie = sessions.cookie(session)
    assert sessions.read(cookie) == session
    assert Sessions(Settings.load(console_token="a")).read(cookie) == session
    assert Sessions(Settings.load(console_token="b")).read(cookie) is None
    assert sessions.read("x" + cookie) is None
    assert sessions.read("") is None
    sessions.end(session)
    assert sessions.read(cookie) is None
    later = sessions.begin("a", "Ada")
    monkeypatch.setattr("time.time", lambda: later.until + 1)
    assert sessions.read(sessions.cookie(later)) is None


async def test_a_session_that_is_over_leads_to_the_door_and_back(operator, monkeypatch):
    await operator.open("history?before=x")
    monkeypatch.setattr(Sessions, "begin", _short(Sessions.begin, seconds=1.5))
    await operator.sign_in()
    assert await operator.page.inner_text("h1") == "History"
    async with asyncio.timeout(SOON):
        while await operator.page.locator("#token").count() == 0:
            await operator.page.reload()
    monkeypatch.undo()
    await operator.sign_in()
    assert operator.page.url.endswith("/console/history?before=x")
    assert await operator.page.inner_text("h1") == "History"


def _short(begin, seconds):
    """Have sessions begin that are nearly over."""

    def shortened(sessions, token, who):
        return replace(begin(sessions, token, who), until=time.time() + seconds)

    return shortened


async def test_a_link_in_another_site_leads_in_without_signing_in_again(operator):
    await operator.open("tasks")
    await operator.sign_in()
    link = f"<a href='{operator.url}tasks?status=failed'>what failed</a>"
    await operator.page.route("http://chat.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    await operator.page.goto("http://chat.example/")
    await operator.page.click("text=what failed")
    await operator.page.wait_for_selector("h1:has-text('Tasks')")
    assert operator.page.url.endswith("/console/tasks?status=failed")
    assert await operator.page.input_value("[name=status]") == "failed"


async def test_a_link_in_another_site_leads_a_stranger_to_the_door(operator):
    link = f"<a href='{operator.url}tasks?status=failed'>what failed</a>"
    await operator.page.route("http://chat.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    await operator.page.goto("http://chat.example/")
    await operator.page.click("text=what failed")
    await operator.page.wait_for_selector("#token")
    assert await operator.page.input_value("[name=next]") == "/console/tasks?status=failed"


@pytest.mark.parametrize("where", ["https://evil.example/", "//evil.example/", "/console/\\evil", "/else"])
async def test_signing_in_leads_nowhere_else(console, where):
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{console}sign-in", data={"token": TOKEN, "next": where}, allow_redirects=False) as answer,
    ):
        assert answer.headers["Location"] == "/console/"


async def test_everything_can_be_read_without_a_script(chromium, console, yard):
    await yard.bury(yard.job("https://fal.media/a.png"))
    async with somebody_else(chromium, console, java_script_enabled=False) as operator:
        await operator.open("dead/letters")
        await operator.sign_in()
        await operator.page.check("input[name=ids]")
        await operator.page.click("text=Discard selected")
        await operator.page.click("button.danger")
        await operator.page.wait_for_url("**/history/*")
        async with asyncio.timeout(SOON):
            while await operator.page.locator("text=1 of 1").count() == 0:
                await operator.page.reload()


@pytest.mark.parametrize("name", ["a/static/b", "a%2Fstatic%2Fb", "a/sign-in", "a%2Fsign-in", "a/sign-out"])
async def test_no_name_of_a_generation_opens_the_door(console, name):
    url = URL(f"{console}generations/{name}", encoded=True)
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 401
        assert "Sign in" in await answer.text()
