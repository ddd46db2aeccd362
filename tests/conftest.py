"""What all tests share. Plugins: servers, signals, distribution to xdist's workers, summaries."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from deploy.local.samples import Sample, make_samples
from deploy.local.source import Source

pytest_plugins = ("tests.servers", "tests.interrupts", "tests.distribution", "tests.summaries", "tests.pythons.summary")

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """The demo's files: real, decodable, made once a session."""
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="session")
async def source(samples: list[Sample]) -> AsyncIterator[Source]:
    """FAL, as far as a worker sees it."""
    serving = Source(samples[0].path.parent)
    await serving.start()
    yield serving
    await serving.stop()
