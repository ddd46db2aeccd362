"""pytest plugin: real servers. Each pytest process, so each xdist worker, has one RabbitMQ and one PostgreSQL.

They start when a test first needs them. Each test gets a virtual host and a database of its own, which are removed
afterwards. A test that stops a server uses a server of its own (`own_rabbitmq`). A test that stops a shared server
fails, and the server is started again for the next test.
"""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from deploy.local.postgres import Postgres
from deploy.local.processes import StackError
from deploy.local.rabbitmq import RabbitMQ
from tests.external_rabbitmq import ExternalRabbitMQ
from tests.process_cleanup import memory_folder

DEAD_SERVER_ERRORS = (
    OSError,
    TimeoutError,
    aiohttp.ClientError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    StackError,
)
Server = Postgres | RabbitMQ | ExternalRabbitMQ
STARTS = 3
MEMORY_BYTES = 8 * 1024**3
"""The data of the shared servers is kept in memory if so much is free there. Few tests need some hundred MB."""


@pytest.fixture(scope="session")
def stack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A folder in memory for the data of the shared servers, if there is enough.

    Every test creates and removes hundreds of files there. ext4 does not use the inodes of files that were removed in
    the last minutes; without a journal it looks at each of them for every new file, which takes ten times as long.
    """
    folder = memory_folder(str(tmp_path_factory.getbasetemp().resolve()))
    if not folder.parent.exists() or shutil.disk_usage(folder.parent).free < MEMORY_BYTES:
        yield None
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o711)  # PostgreSQL may run as another user
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def postgres(stack_dir: Path, memory: Path | None) -> AsyncIterator[Postgres]:
    server = Postgres(stack_dir, durable=False)
    await server.start()
    if memory is not None:
        await move_databases(server, stack_dir / "postgres", memory / "postgres")
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def rabbitmq(stack_dir: Path, memory: Path | None) -> AsyncIterator[RabbitMQ | ExternalRabbitMQ]:
    if given := ExternalRabbitMQ.from_environment():
        yield given
        return
    if memory is not None:
        (memory / "rabbitmq").mkdir(mode=0o700)
        (stack_dir / "rabbitmq").mkdir()
        (stack_dir / "rabbitmq" / "mnesia").symlink_to(memory / "rabbitmq")
    broker = await start_rabbitmq(stack_dir)
    yield broker
    await broker.kill()  # its data is not read again, and an orderly stop takes seconds
    await broker.stop()


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """A new database as the local stack creates it: Supabase's roles and schemas, and our migrations."""
    name = new_name()
    yield await create_or_restart(postgres, lambda: postgres.create_database(name))
    await remove_or_fail(postgres, lambda: postgres.drop_database(name))


@pytest.fixture
async def rabbitmq_url(rabbitmq: RabbitMQ | ExternalRabbitMQ) -> AsyncIterator[str]:
    """A new virtual host."""
    name = new_name()
    yield await create_or_restart(rabbitmq, lambda: rabbitmq.create_vhost(name))
    await remove_or_fail(rabbitmq, lambda: rabbitmq.delete_vhost(name))


@pytest.fixture(scope="module")
async def broker_of_stacks(rabbitmq: RabbitMQ | ExternalRabbitMQ) -> AsyncIterator[None]:
    """The local stacks that a file starts use a virtual host of the shared broker instead of a broker of their own.

    Starting a broker takes eight seconds of processor time.
    """
    name = new_name()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RABBITMQ_URL", await rabbitmq.create_vhost(name))
        yield
    await rabbitmq.delete_vhost(name)


@pytest.fixture
async def own_rabbitmq(tmp_path: Path) -> AsyncIterator[RabbitMQ]:
    """A private broker, which the test may stop."""
    broker = await start_rabbitmq(tmp_path / "own")
    yield broker
    await broker.kill()
    await broker.stop()


async def move_databases(server: Postgres, cluster: Path, folder: Path) -> None:
    """Make the server create its databases in this folder, which only its user may read."""
    folder.mkdir(mode=0o700)
    os.chown(folder, cluster.stat().st_uid, cluster.stat().st_gid)
    admin = await asyncpg.connect(server.url)
    try:
        await admin.execute(f"create tablespace memory location '{folder}'")
        await admin.execute("alter database template1 set tablespace memory")
    finally:
        await admin.close()


async def start_rabbitmq(folder: Path) -> RabbitMQ:
    """Start a broker; retry with other ports when another program took one of them first."""
    for left in reversed(range(STARTS)):
        broker = RabbitMQ(folder)
        try:
            await broker.start()
        except StackError:
            if not left:
                raise
        else:
            return broker
    raise AssertionError


def new_name() -> str:
    return f"t{uuid4().hex[:12]}"


async def create_or_restart(server: Server, make: Callable[[], Awaitable[str]]) -> str:
    """Create a test's own part of a shared server; restart the server first when it is dead."""
    with contextlib.suppress(*DEAD_SERVER_ERRORS):
        return await make()
    await restart(server)
    return await make()


async def remove_or_fail(server: Server, remove: Callable[[], Awaitable[None]]) -> None:
    """Remove a test's own part of a shared server; fail the test when the server is dead."""
    try:
        await remove()
    except DEAD_SERVER_ERRORS as error:
        await restart(server)
        pytest.fail(
            f"this test stopped the shared {type(server).__name__} ({error!r}); it is started again."
            " A test that stops a server needs one of its own, e.g. the fixture own_rabbitmq."
        )


async def restart(server: Server) -> None:
    await server.stop()
    await server.start()
