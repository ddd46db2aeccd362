"""One complete local stack for the end-to-end tests: receiver and workers as separate processes."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.command_line import call_outlast  # noqa: F401 - the fixture


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("whole"), workers=1) as running:
        yield running


@pytest.fixture
async def project(stack: Stack) -> AsyncIterator[Project]:
    async with Project(stack.endpoints) as found:
        yield found
