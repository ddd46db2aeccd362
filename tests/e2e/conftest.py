"""One complete local stack for the end-to-end tests: receiver and workers as separate processes."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.project import Project
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.stack import Stack
from tests.command_line import call_outlast  # noqa: F401 - the fixture
from tests.external_rabbitmq import ExternalRabbitMQ
from tests.servers import new_name


@pytest.fixture(scope="session")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ | ExternalRabbitMQ
) -> AsyncIterator[Stack]:
    """The stack uses a virtual host of the shared broker: starting one takes five seconds of processor time."""
    name = new_name()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RABBITMQ_URL", await rabbitmq.create_vhost(name))
        stack = Stack(tmp_path_factory.mktemp("whole"), workers=1)
    async with stack as running:
        yield running
    await rabbitmq.delete_vhost(name)


@pytest.fixture
async def project(stack: Stack) -> AsyncIterator[Project]:
    async with Project(stack.endpoints) as found:
        yield found
