"""Fixtures: a receiver with a console, a worker, and operators with a chromium browser."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from playwright.async_api import Error as PlaywrightError
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

    def __init__(self, page, url):
        self.page, self.url = page, url

    async def open(self, path=""):
        """Open a page. Open it again while it says that what it shows is not complete yet."""
        answer = await self.page.goto(self.url + path, wait_until="domcontentloaded")
        return await self.complete() or answer

    async def complete(self):
        """Load the page again until it is complete; return the last answer, None if it was complete already."""
        answer = None
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.page.locator(INCOMPLETE).count():
                answer = await self.page.goto(self.page.url, wait_until="domcontentloaded")
        return answer

    async def sign_in(self, token=TOKEN, who="Ada"):
        await self.page.fill("#token", token)
        await self.page.fill("#who", who)
        async with self.page.expect_navigation():
            await self.page.click("button.main")
        await self.complete()

    async def evaluate(self, expression):
        """Evaluate a JavaScript expression, on the next page when the page is left meanwhile."""
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
    yield Operator(await context.new_page(), url)
    await context.close()
