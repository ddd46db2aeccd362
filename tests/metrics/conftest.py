"""One run with load and every trouble, which the tests then look at through Prometheus alone."""

import aiohttp
import pytest

from tests.metrics.trouble import trouble
from tests.metrics.watched import watched


def series_of(text):
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


async def shown(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return series_of(await response.text())


@pytest.fixture(scope="module")
async def run(tmp_path_factory):
    """The run when all is over; `lasting` are those that lived through it, with the series they began with."""
    async with watched(tmp_path_factory.mktemp("watched")) as running:
        lasting = [f"{running.stack.receiver_url}/metrics", running.stack.endpoints.worker_metrics_urls[0]]
        running.lasting = {url: await shown(url) for url in lasting}
        await trouble(running)
        yield running
