"""The dashboards against a real Prometheus that scraped a real run: no query comes back empty."""

import asyncio
import time

import pytest

from tests.grafana.boards import boards, marks, queries
from tests.grafana.load import drive
from tests.grafana.watched import watched

LONGEST_SECONDS = 75
NOT_IN_THIS_RUN = {"Dependencies away": "nothing is away", "Storage that fails": "Storage works"}
EVERY_QUERY = [query for board in boards().values() for query in (*queries(board), *marks(board))]


async def look(prometheus, start):
    """Return each query's series since `start`."""
    return [(query, await prometheus.course(query.concrete("5s"), start, time.time(), 1)) for query in EVERY_QUERY]


def empty(found):
    return [f"{query.board}: {query.title}" for query, series in found if not series]


@pytest.mark.long
async def test_no_query_comes_back_empty_from_a_run_with_faults(tmp_path):
    async with watched(tmp_path) as (stack, prometheus):
        start = time.time()
        load = asyncio.create_task(drive(stack, LONGEST_SECONDS))
        found = await look(prometheus, start)
        while not load.done() and any(name.partition(": ")[2] not in NOT_IN_THIS_RUN for name in empty(found)):
            await asyncio.sleep(1)
            found = await look(prometheus, start)
        if load.done():
            load.result()
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    assert [name for name in empty(found) if name.partition(": ")[2] not in NOT_IN_THIS_RUN] == []
    unnamed = [query.title for query, series in found for one in series if query.labels - set(one["metric"])]
    assert unnamed == []
