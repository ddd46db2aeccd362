"""Fixtures and plugins of all tests."""

import gc
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from deploy.local.samples import Sample
from deploy.local.source import Source

pytest_plugins = (
    *("tests.servers", "tests.run_samples", "tests.interrupts", "tests.distribution", "tests.summaries"),
    "tests.pythons.summary",
)

# The duration of an example depends on the machine's load, not on the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Exclude modules and collected tests from garbage collection, which takes 4% of the time with them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
async def source(samples: list[Sample]) -> AsyncIterator[Source]:
    """A local server with FAL's files, keys and queue."""
    serving = Source(samples[0].path.parent)
    await serving.start()
    yield serving
    await serving.stop()
