"""A Chromium without a window."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Browser

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
    "--renderer-process-limit=1",  # the pages of all tests share a process, since starting one takes time
]


@asynccontextmanager
async def started_chromium() -> AsyncIterator["Browser"]:
    """Start the browser; it ends with the context."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - slow to import, and few processes need it

    async with async_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = await playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        await browser.close()
