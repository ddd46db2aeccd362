"""Real surroundings for the tests: one RabbitMQ and one PostgreSQL a session, database and vhost of its own a test."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.local.postgres import Postgres
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.samples import Sample, make_samples
from deploy.local.source import Source


@pytest.fixture(scope="session")
def stack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
async def postgres(stack_dir: Path) -> AsyncIterator[Postgres]:
    server = Postgres(stack_dir, durable=False)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def rabbitmq(stack_dir: Path) -> AsyncIterator[RabbitMQ]:
    broker = RabbitMQ(stack_dir)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def database_url(postgres: Postgres) -> str:
    """A database of the test's own, as the local stack sets one up: Supabase's surroundings and our migrations."""
    return await postgres.create_database(f"t{uuid4().hex[:12]}")


@pytest.fixture
async def rabbitmq_url(rabbitmq: RabbitMQ) -> str:
    """A virtual host of the test's own."""
    return await rabbitmq.create_vhost(f"t{uuid4().hex[:12]}")


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
