"""Fixtures: a receiver with a console, a worker, and operators with a chromium browser."""

import asyncio
import contextlib
import os
import re
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from tests.broker.conftest import worker_env  # noqa: F401 - the fixture
from tests.broker.dead_letter_vhost import DeadLetterVhost
from tests.browser import started_chromium
from tests.time_limits import WAIT_SECONDS
from worker.runtime import serve
from worker.web.receiver import Receiver

TOKEN, READ_TOKEN = "the-console-token", "the-read-token"
SCREENSHOTS = Path(__file__).parents[2] / ".outlast" / "console"
INCOMPLETE = "[data-incomplete]"
RECORD_VIOLATIONS = (
    "window.violations = []; addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective));"
)


class Operator:
    """An operator with a browser: `page` is the open page, `url` the address of the console."""

    def __init__(self, page, url, *, has_scripts=True):
        self.page, self.url, self.has_scripts = page, url, has_scripts

    async def open(self, path=""):
        """Open a page and wait until it is complete. Return its first answer."""
        answer = await self.load(path)
        await self.wait_until_complete()
        return answer

    async def wait_until_complete(self):
        """Wait until the page does not say any more that it is incomplete. Without scripts it must be loaded again."""
        if self.has_scripts:  # which may load the page again
            await self.until(f"document.readyState === 'complete' && !document.querySelector('{INCOMPLETE}')")
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.page.locator(INCOMPLETE).count():
                await self.page.reload()

    async def load(self, path=""):
        """Open a page, and return its answer."""
        return await self.page.goto(self.url + path, wait_until="domcontentloaded")

    async def sign_in(self, token=TOKEN, who="Ada"):
        await self.page.fill("#token", token)
        await self.page.fill("#who", who)
        async with self.page.expect_navigation():
            await self.page.click("button.main")
        await self.wait_until_complete()

    async def evaluate(self, expression):
        """Evaluate a JavaScript expression, on the next page when the page is left meanwhile."""
        from playwright.async_api import Error as PlaywrightError  # noqa: PLC0415 - slow, and few processes need it

        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    return await self.page.evaluate(expression)
                except PlaywrightError as error:
                    if "Execution context was destroyed" not in str(error):
                        raise

    async def until(self, expression):
        """Wait until a JavaScript expression is true. Polled, because the page's policy forbids `eval` in the page."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.05)

    async def take_screenshot(self, name):
        """Write a picture of the page, if pictures are wanted (`make pictures`): they take a fifth of a test's time."""
        if not os.environ.get("TEST_PICTURES"):
            return
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture
async def console(worker_env, monkeypatch):  # noqa: F811 - the fixture
    """Return the address of the console. Its pages update more often than in production, to save time."""
    monkeypatch.setattr("worker.console.now.CACHE_SECONDS", 0.2)
    monkeypatch.setattr("worker.console.sse.RENDER_EVERY_SECONDS", 0.2)
    tokens = {"console_token": SecretStr(TOKEN), "console_read_token": SecretStr(READ_TOKEN)}
    settings = worker_env.settings.model_copy(update=tokens)
    app = Receiver(settings, [], worker_env.broker, worker_env.metrics, worker_env.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as addresses:
        yield f"http://{addresses[0]}/console/"


@pytest.fixture(scope="session")
async def chromium():
    async with started_chromium() as browser:
        yield browser


@pytest.fixture
async def operator(chromium, console):
    """Return an operator with a new browser profile. Script errors, dialogs and policy violations fail the test."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 800}, timezone_id="Europe/Berlin")
    context.set_default_timeout(1000 * WAIT_SECONDS)
    page, problems = await context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "dialog", lambda dialog: problems.append(f"dialog {dialog.message}") or asyncio.ensure_future(dialog.dismiss())
    )
    page.on("console", lambda m: problems.append(m.text) if "Security Policy" in m.text else None)
    await page.add_init_script(RECORD_VIOLATIONS)
    yield Operator(page, console)
    await context.close()
    assert problems == []


@pytest.fixture
def vhost(worker_env):  # noqa: F811 - the fixture
    return DeadLetterVhost(worker_env.settings.rabbitmq_url.get_secret_value(), worker_env.settings, worker_env.channel)


@contextlib.asynccontextmanager
async def another_operator(chromium, url, **options):
    context = await chromium.new_context(**options)
    context.set_default_timeout(1000 * WAIT_SECONDS)
    yield Operator(await context.new_page(), url, has_scripts=options.get("java_script_enabled", True))
    await context.close()


@contextlib.asynccontextmanager
async def signed_in(console, token):
    """Return a client with a session, and its form token."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        await session.post(f"{console}sign-in", data={"token": token, "who": "Ada"})
        text = await (await session.get(f"{console}history")).text()
        yield session, re.search(r'name="form_token" value="([^"]+)"', text)[1]
