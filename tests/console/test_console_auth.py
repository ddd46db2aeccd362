"""Sign-in, sessions, read-only access, and protection against forged forms and redirects."""

import asyncio
import hashlib
import time
from dataclasses import replace

import aiohttp
import pytest
from yarl import URL

from handlers.database.task_records import task_row
from tests.console.conftest import READ_TOKEN, TOKEN, another_operator
from tests.time_limits import WAIT_SECONDS
from worker.console.session import Sessions, SignInThrottle
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver


async def test_wrong_tokens_are_throttled_and_the_right_one_is_accepted_at_once(operator):
    await operator.open()
    messages = []
    for _ in range(10):
        await operator.sign_in("wrong")
        messages.append(await operator.page.inner_text("[role=alert]"))
    assert messages[0] == "The token is wrong."
    assert any("Too many wrong attempts" in message for message in messages[5:])
    await operator.sign_in()
    assert await operator.page.inner_text("h1") == "Now"
    assert await operator.page.inner_text(".account span") == "Ada"
    (cookie,) = await operator.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    await operator.page.click("text=Sign out")
    assert await operator.page.inner_text("h1") == "Sign in"


async def test_a_read_only_session_shows_pages_and_refuses_actions(operator, worker_env):
    await worker_env.worker.stop(0)
    job = worker_env.job("https://fal.media/a.png")
    await worker_env.parts.supabase.call("outlast_enqueue", {"p_job": task_row(job)})
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in(READ_TOKEN)
    assert "read only" in await operator.page.inner_text("header")
    assert await operator.page.locator("main button").count() == 0
    answer = await operator.page.evaluate(
        "async () => (await fetch(location.href + '/cancel', {method: 'POST', body: new URLSearchParams("
        "{form_token: document.querySelector('[name=form_token]').value})})).status"
    )
    assert answer == 403
    assert (await worker_env.task(job))["status"] == "queued"


async def test_a_form_without_token_or_from_another_site_is_refused(console):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.post(f"{console}sign-in", data={"token": TOKEN}) as answer:
            assert answer.status == 200
        async with session.post(f"{console}dead/run", data={"verb": "replay"}) as answer:
            assert answer.status == 403
        evil = {"Origin": "https://evil.example"}
        async with session.post(f"{console}sign-in", data={"token": TOKEN}, headers=evil) as answer:
            assert answer.status == 403
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


async def test_an_attacker_behind_the_same_address_does_not_lock_out_the_right_token(console):
    async with aiohttp.ClientSession() as session:
        statuses = []
        for _ in range(8):
            async with session.post(f"{console}sign-in", data={"token": "wrong"}) as answer:
                statuses.append(answer.status)
        assert statuses == [401] * 4 + [429] * 4
        async with session.post(f"{console}sign-in", data={"token": TOKEN}, allow_redirects=False) as answer:
            assert answer.status == 303


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (aiohttp.FormData({"token": TOKEN}, default_to_multipart=True), 415),
        (b"token=" + b"x" * 9000, 413),
        ("&".join("a" for _ in range(300)).encode(), 422),
    ],
)
async def test_an_odd_sign_in_form_is_refused(console, form, status):
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"} if isinstance(form, bytes) else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{console}sign-in", data=form, headers=urlencoded) as answer,
    ):
        assert answer.status == status


async def test_the_console_is_disabled_without_console_token(worker_env):
    app = Receiver(worker_env.settings, [], worker_env.broker, worker_env.metrics, worker_env.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as (address,), aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/console") as answer:
            assert answer.status == 403
            assert "Set CONSOLE_TOKEN" in await answer.text()
        async with session.post(f"http://{address}/console/sign-in", data={"token": ""}) as answer:
            assert answer.status == 403


def test_wrong_attempts_are_counted_by_the_beginning_of_the_token_and_the_address():
    throttle = SignInThrottle()
    delays = [throttle.record_failure("guess", "proxy") for _ in range(3000)]
    assert delays[:7] == [0, 0, 0, 0, 1, 2, 4]
    assert delays[-1] == 60
    assert throttle.record_failure("mistyped", "proxy") == 0
    assert throttle.record_failure("guess", "elsewhere") == 0


def test_the_cookies_key_is_slow_to_derive_and_the_same_in_each_process(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    calls, scrypt = [], hashlib.scrypt
    monkeypatch.setattr("hashlib.scrypt", lambda *args, **options: calls.append(options) or scrypt(*args, **options))
    settings = Settings.load(console_token="a", console_read_token="b")
    first, second = Sessions(settings), Sessions(settings)
    assert second.read(first.cookie(session := first.create("b", "Ada"))) == session
    assert [128 * each["n"] * each["r"] for each in calls] == [16 * 1024 * 1024] * 2  # bytes of memory per guess


def test_a_session_ends_by_expiry_by_sign_out_and_when_a_token_changes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sessions = Sessions(Settings.load(console_token="a", console_session_hours=1))
    session = sessions.create("a", "Ada")
    cookie = sessions.cookie(session)
    assert sessions.read(cookie) == session
    assert Sessions(Settings.load(console_token="a")).read(cookie) == session
    assert Sessions(Settings.load(console_token="b")).read(cookie) is None
    assert sessions.read("x" + cookie) is None
    assert sessions.read("") is None
    sessions.end(session)
    assert sessions.read(cookie) is None
    later = sessions.create("a", "Ada")
    monkeypatch.setattr("time.time", lambda: later.expires_at + 1)
    assert sessions.read(sessions.cookie(later)) is None


@pytest.mark.parametrize("cookie", ["", "a.b", "\udcff\udcfe.\udcff", "é.é", "." * 4000])
async def test_an_invalid_cookie_leads_to_sign_in(console, cookie):
    header = {"Cookie": f"outlast_console={cookie}".encode(errors="surrogateescape").decode("latin-1")}
    async with aiohttp.ClientSession() as session, session.get(console, headers=header) as response:
        assert response.status == 401
        assert "Sign in" in await response.text()


async def test_an_expired_session_leads_to_sign_in_and_back_to_the_page(operator, monkeypatch):
    await operator.open("history?before=x")
    monkeypatch.setattr(Sessions, "create", _short_lived(Sessions.create, seconds=1.5))
    await operator.sign_in()
    assert await operator.page.inner_text("h1") == "History"
    async with asyncio.timeout(WAIT_SECONDS):
        while await operator.page.locator("#token").count() == 0:
            await operator.page.reload()
    monkeypatch.undo()
    await operator.sign_in()
    assert operator.page.url.endswith("/console/history?before=x")
    assert await operator.page.inner_text("h1") == "History"


def _short_lived(create, seconds):
    """Return a replacement of `Sessions.create` whose sessions expire after some seconds."""

    def create_short_lived(sessions, token, name):
        return replace(create(sessions, token, name), expires_at=time.time() + seconds)

    return create_short_lived


async def test_a_link_on_another_site_opens_the_page_with_the_existing_session(operator):
    await operator.open("tasks")
    await operator.sign_in()
    link = f"<a href='{operator.url}tasks?status=failed'>what failed</a>"
    await operator.page.route("http://chat.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    await operator.page.goto("http://chat.example/")
    await operator.page.click("text=what failed")
    await operator.page.wait_for_selector("h1:has-text('Tasks')")
    assert operator.page.url.endswith("/console/tasks?status=failed")
    assert await operator.page.input_value("[name=status]") == "failed"


async def test_a_link_on_another_site_leads_to_sign_in_without_a_session(operator):
    link = f"<a href='{operator.url}tasks?status=failed'>what failed</a>"
    await operator.page.route("http://chat.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    await operator.page.goto("http://chat.example/")
    await operator.page.click("text=what failed")
    await operator.page.wait_for_selector("#token")
    assert await operator.page.input_value("[name=next]") == "/console/tasks?status=failed"


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example/", "/console/\\evil", "/else"])
async def test_sign_in_redirects_only_to_console_pages(console, path):
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{console}sign-in", data={"token": TOKEN, "next": path}, allow_redirects=False) as answer,
    ):
        assert answer.headers["Location"] == "/console/"


async def test_dead_letters_can_be_discarded_without_javascript(chromium, console, vhost):
    await vhost.dead_letter(vhost.job("https://fal.media/a.png"))
    async with another_operator(chromium, console, java_script_enabled=False) as operator:
        await operator.open("dead/letters")
        await operator.sign_in()
        await operator.page.check("input[name=ids]")
        await operator.page.click("text=Discard selected")
        await operator.page.click("button.danger")
        await operator.page.wait_for_url("**/history/*")
        async with asyncio.timeout(WAIT_SECONDS):
            while await operator.page.locator("text=1 of 1").count() == 0:
                await operator.page.reload()


@pytest.mark.parametrize("name", ["a/static/b", "a%2Fstatic%2Fb", "a/sign-in", "a%2Fsign-in", "a/sign-out"])
async def test_no_generation_id_bypasses_sign_in(console, name):
    url = URL(f"{console}generations/{name}", encoded=True)
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 401
        assert "Sign in" in await answer.text()
