"""The private RabbitMQ node: it starts, keeps its data over a restart, and leaves no process."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from itertools import chain
from pathlib import Path

import aio_pika
import psutil
import pytest
from yarl import URL

from deploy.local import rabbitmq as module
from deploy.local.account import setpriv_prefix
from deploy.local.processes import StackError, end_leftovers, free_port
from deploy.local.rabbitmq import USER, RabbitMQ
from tests.listening import listening_addresses
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

NOBODY = 65534


def process_of(folder: Path, name: str) -> psutil.Process:
    """Return the process that is recorded under this name in the stack's folder."""
    return psutil.Process(json.loads((folder / "run" / f"{name}.json").read_text())["pid"])


def process_tree(folder: Path) -> list[psutil.Process]:
    roots = [process_of(folder, name) for name in ("rabbitmq", "epmd")]
    return roots + [process for root in roots for process in root.children(recursive=True)]


async def put(url: str, body: bytes) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")


async def take(url: str) -> bytes:
    connection = await aio_pika.connect(url)
    async with connection:
        queue = await (await connection.channel()).get_queue("kept")
        message = await queue.get(timeout=WAIT_SECONDS)
        await message.ack()
        return message.body


async def test_restart_keeps_messages_and_url_and_stop_leaves_no_process(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:  # has taken the second of the node's ports meanwhile
        chosen = chain([free_port(), other.getsockname()[1]], iter(free_port, None))
        monkeypatch.setattr(module, "free_port", lambda: next(chosen))
        broker = RabbitMQ(tmp_path)
        await broker.start()
    url = broker.url
    await put(url, b"first life")
    alive = process_tree(tmp_path)
    assert len(alive) > 2
    await broker.stop()
    gone, left = psutil.wait_procs(alive, timeout=WAIT_SECONDS)
    assert (len(gone), left) == (len(alive), [])

    await broker.start()
    assert broker.url == url
    assert await take(url) == b"first life"
    # The parent dies without a clean stop: its processes are found by their marker and ended.
    alive = process_tree(tmp_path)
    process_of(tmp_path, "epmd").send_signal(signal.SIGSTOP)
    ended = await asyncio.to_thread(end_leftovers, tmp_path.resolve())
    assert {"rabbitmq", "epmd"} <= set(ended)
    assert psutil.wait_procs(alive, timeout=WAIT_SECONDS)[1] == []
    await broker.stop()


async def test_private_broker_listens_on_loopback_only(rabbitmq, stack_dir):
    assert rabbitmq.url
    listening = [address.ip for address in listening_addresses(process_tree(stack_dir))]
    assert len(listening) >= 3
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


async def test_default_credentials_are_rejected(rabbitmq):
    port = rabbitmq.url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(aio_pika.exceptions.AMQPError):
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{port}/")


async def test_virtual_hosts_are_isolated(rabbitmq):
    first_host, other = await rabbitmq.create_vhost("one"), await rabbitmq.create_vhost("other")
    await put(first_host, b"in one")
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await take(other)
    await rabbitmq.delete_vhost("other")
    with pytest.raises((aio_pika.exceptions.AMQPError, ConnectionError)):
        await aio_pika.connect(other)


STAY = """
import asyncio, sys
from pathlib import Path
from deploy.local.rabbitmq import USER, RabbitMQ

async def main():
    broker = RabbitMQ(Path(sys.argv[1]))
    await broker.start()
    print(await broker.create_vhost("mine"), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_broker_of_a_killed_unprivileged_user_is_cleaned_up():
    folder = Path(tempfile.mkdtemp()).resolve()  # a folder that this user can reach, unlike pytest's
    prefix = ()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        require = [Path(sys.base_prefix), Path(sys.prefix), Path(module.__file__).parent]
        prefix = max([await setpriv_prefix(NOBODY, NOBODY, path) for path in require], key=len)
    stack = await asyncio.create_subprocess_exec(
        *prefix,
        sys.executable,
        "-c",
        STAY,
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert stack.stdout is not None
        url = (await asyncio.wait_for(stack.stdout.readline(), LONG_WAIT_SECONDS)).decode().strip()
        await put(url, b"as anybody")
        alive = psutil.Process(stack.pid).children(recursive=True)
        assert {process.uids().real for process in alive} == {NOBODY if prefix else os.geteuid()}
        stack.kill()
        await stack.wait()
        ended = await asyncio.to_thread(end_leftovers, folder)
        assert {"rabbitmq", "epmd"} <= set(ended)
        assert psutil.wait_procs(alive, timeout=WAIT_SECONDS)[1] == []
    finally:
        await asyncio.to_thread(end_leftovers, folder)
        shutil.rmtree(folder)


async def test_missing_rabbitmq_server_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.local.rabbitmq.SERVERS", ("/nowhere/rabbitmq-server",))
    with pytest.raises(StackError, match="apt-get install rabbitmq-server"):
        await RabbitMQ(tmp_path).start()


async def test_a_virtual_host_without_permissions_can_be_used_after_it_is_created_again(rabbitmq, rabbitmq_url):
    name = URL(rabbitmq_url).path.removeprefix("/")
    await rabbitmq.manage("DELETE", f"permissions/{name}/{USER}")
    async with await aio_pika.connect(await rabbitmq.create_vhost(name)) as connection:
        queue = await (await connection.channel()).declare_queue("mine", exclusive=True)
    assert queue.name == "mine"
