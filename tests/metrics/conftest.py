"""One monitored run with load and every fault; the tests read its results from Prometheus."""

import aiohttp
import pytest

from tests.metrics.fault_scenario import inject_faults
from tests.metrics.monitored_stack import monitored_stack


def series_of(text):
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


async def scrape_series(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return series_of(await response.text())


@pytest.fixture(scope="module")
async def run(tmp_path_factory):
    """The run after all faults; `series_at_start` has the initial series of the processes that lived throughout."""
    async with monitored_stack(tmp_path_factory.mktemp("watched")) as running:
        series_at_start = [f"{running.stack.receiver_url}/metrics", running.stack.endpoints.worker_metrics_urls[0]]
        running.series_at_start = {url: await scrape_series(url) for url in series_at_start}
        await inject_faults(running)
        yield running
