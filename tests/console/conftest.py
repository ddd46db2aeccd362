"""A receiver with a console, a worker beside it, and Debian's chromium before it."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from playwright.async_api import async_playwright
from pydantic import SecretStr

from tests.broker.conftest import bench  # noqa: F401 - the fixture
from tests.broker.graves import Graveyard
from tests.patience import SOON
from worker.runtime import serve
from worker.web.receiver import Receiver

TOKEN, READ_TOKEN = "the-console-token", "the-read-token"
SHOTS = Path(__file__).parents[2] / ".outlast" / "console"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
WATCH = "window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.violatedDirective));"


class Operator:
    """Somebody in front of a browser: `page` is theirs, `url` the console's."""

    def __init__(self, page, url):
        self.page, self.url = page, url

    async def open(self, path=""):
        return await self.page.goto(self.url + path, wait_until="domcontentloaded")

    async def sign_in(self, token=TOKEN, who="Ada"):
        await self.page.fill("#token", token)
        await self.page.fill("#who", who)
        async with self.page.expect_navigation():
            await self.page.click("button.main")

    async def until(self, expression):
        """Wait until JavaScript says so, from outside: the page's own policy forbids evaluating there."""
        async with asyncio.timeout(SOON):
            while not await self.page.evaluate(expression):
                await asyncio.sleep(0.05)

    async def shoot(self, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.fixture
async def console(bench, monkeypatch):  # noqa: F811 - the fixture
    """The console's address. Its pages look more often than elsewhere, so that tests need not wait."""
    monkeypatch.setattr("worker.console.now.FRESH_SECONDS", 0.2)
    monkeypatch.setattr("worker.console.sse.EVERY_SECONDS", 0.2)
    tokens = {"console_token": SecretStr(TOKEN), "console_read_token": SecretStr(READ_TOKEN)}
    settings = bench.settings.model_copy(update=tokens)
    app = Receiver(settings, [], bench.broker, bench.metrics, bench.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as addresses:
        yield f"http://{addresses[0]}/console/"


@pytest.fixture(scope="session")
async def chromium():
    async with async_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = await playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def operator(chromium, console):
    """One operator at a fresh browser profile; whatever the policy refused fails the test."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 800}, timezone_id="Europe/Berlin")
    context.set_default_timeout(1000 * SOON)
    page, wrong = await context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "dialog", lambda dialog: wrong.append(f"dialog {dialog.message}") or asyncio.ensure_future(dialog.dismiss())
    )
    page.on("console", lambda m: wrong.append(m.text) if "Security Policy" in m.text else None)
    await page.add_init_script(WATCH)
    yield Operator(page, console)
    await context.close()
    assert wrong == []


@pytest.fixture
def yard(bench):  # noqa: F811 - the fixture
    return Graveyard(bench.settings.rabbitmq_url.get_secret_value(), bench.settings, bench.channel)


@contextlib.asynccontextmanager
async def somebody_else(chromium, url, **options):
    context = await chromium.new_context(**options)
    context.set_default_timeout(1000 * SOON)
    yield Operator(await context.new_page(), url)
    await context.close()
