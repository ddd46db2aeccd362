"""A cluster of three private nodes: the order in which nodes are tried, queue members, and the loss of a leader."""

import asyncio
import contextlib
import re
import shlex
import sys
import time
from collections.abc import AsyncIterator
from urllib.parse import quote
from uuid import uuid4

import aio_pika
import httpx
import pytest
from pydantic import SecretStr
from yarl import URL

from deploy.local.rabbitmq import RabbitMQ
from tests.broker.webhook_load import run_receiver_and_workers
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.errors import BROKER_ERRORS, BrokerUnavailableError, translate_broker_errors
from worker.broker.nodes import Nodes, connect
from worker.broker.tls import TLSFiles
from worker.doctor.cluster import queue_members
from worker.doctor.context import CheckContext
from worker.doctor.result import CheckWarning
from worker.observability.metrics import Metrics
from worker.settings import Settings

PLUGINS = ("rabbitmq_management",)
GENERATIONS = 300
ANSWERED_503_SECONDS = 10
RESUMED_SECONDS = 15
SLOWER = 4
"""The two limits above are for a quiet machine; the assertions allow a machine that is this many times slower."""
LIMIT_SECONDS = 120
PAUSE_SECONDS = 0.2


class Cluster:
    """Three nodes and one virtual host on them."""

    def __init__(self, nodes: list[RabbitMQ], vhost: str) -> None:
        self.nodes, self.vhost = nodes, vhost

    @property
    def url(self) -> str:
        """RABBITMQ_URL with all three nodes."""
        return ",".join(node.vhost_url(self.vhost) for node in self.nodes)

    async def get_api(self, path: str):
        """GET a path from the management API of the first node that answers."""
        user = URL(self.nodes[0].url)
        async with httpx.AsyncClient(auth=(user.user, user.password)) as http:
            for node in self.nodes:
                with contextlib.suppress(httpx.HTTPError):
                    return (await http.get(f"{node.management_url}/api/{path}")).raise_for_status().json()
        raise AssertionError("no node answers")

    async def leader(self, queue: str) -> RabbitMQ:
        """Return the node that leads a queue."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                queue_info = await self.get_api(f"queues/{quote(self.vhost)}/{queue}")
                for node in self.nodes:
                    if node.name == queue_info.get("leader"):
                        return node
                await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[RabbitMQ]]:
    folder = tmp_path_factory.mktemp("cluster")
    first = RabbitMQ(folder / "0", PLUGINS)
    found = [first, *(RabbitMQ(folder / str(n), PLUGINS, joins=first) for n in (1, 2))]
    async with contextlib.AsyncExitStack() as stack:
        for node in found:
            await node.start()
            stack.push_async_callback(node.stop)
        yield found


@pytest.fixture
async def cluster(nodes: list[RabbitMQ]) -> Cluster:
    vhost = f"t{uuid4().hex[:12]}"
    await nodes[0].create_vhost(vhost)
    return Cluster(nodes, vhost)


def settings_of(url: str, **more) -> Settings:
    return Settings.load(_env_file=None, rabbitmq_url=SecretStr(url), retry_delays=(1, 2), **more)


async def test_unreachable_node_is_skipped_and_the_last_used_node_is_tried_first(cluster):
    urls = [URL(node.vhost_url(cluster.vhost)) for node in cluster.nodes]
    nodes = Nodes([urls[0].with_port(1), urls[1], urls[2]], TLSFiles())
    first = None
    for _ in range(6):
        async with await connect_when_ready(nodes):
            first = first or nodes.last
            assert nodes.last == first
    assert first in urls[1:]


async def connect_when_ready(nodes):
    """Connect. A node refuses a virtual host that was just created on another node."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            try:
                with translate_broker_errors():
                    return await connect(nodes, "test")
            except BROKER_ERRORS:
                await asyncio.sleep(0.1)


async def test_error_names_every_unreachable_node(cluster):
    url = URL(cluster.nodes[0].vhost_url(cluster.vhost))
    async with Broker(settings_of(f"{url.with_port(1)},127.0.0.1:2"), Metrics("test"), "test") as broker:
        async with asyncio.timeout(LIMIT_SECONDS):
            while "refused" not in (problem := await broker.problem()):
                await asyncio.sleep(0.05)
        assert "127.0.0.1:1 cannot be reached: connection refused" in problem
        assert "127.0.0.1:2 cannot be reached: connection refused" in problem
        assert url.password not in problem
        with pytest.raises(BrokerUnavailableError):
            await broker.publish(topology.DEAD, "", aio_pika.Message(b"x"), 0.1)


async def test_queues_have_a_member_on_each_node_and_doctor_reports_a_missing_one(cluster):
    settings = settings_of(cluster.url, rabbitmq_management_url=cluster.nodes[1].management_url)
    async with Broker(settings, Metrics("test"), "test") as broker:
        await broker.wait_ready()
    site, count = CheckContext.of(settings), len(list(topology.queues(settings.retry_delays)))
    try:
        async with asyncio.timeout(LIMIT_SECONDS):  # the management API counts members only every few seconds
            while await queue_members(site) != f"{count} queues, each with 3 members in a cluster of 3":
                await asyncio.sleep(0.2)
        lacking = cluster.nodes[2].name
        await cluster.nodes[0].control(
            *("delete_member", "--vhost", cluster.vhost, topology.DEAD, lacking), program="rabbitmq-queues"
        )
        async with asyncio.timeout(LIMIT_SECONDS):
            while (concern := await find_concern(site)) is None:
                await asyncio.sleep(0.2)
        assert re.match(r"outlast\.dead has fewer members \(2\) .* nodes \(3\)", str(concern))
        program, *arguments = shlex.split(concern.remedy)
        await cluster.nodes[0].control(*arguments, program=program)
        async with asyncio.timeout(LIMIT_SECONDS):
            while await find_concern(site) is not None:
                await asyncio.sleep(0.2)
    finally:
        await site.aclose()


async def find_concern(site: CheckContext) -> CheckWarning | None:
    try:
        await queue_members(site)
    except CheckWarning as found:
        return found
    return None


async def test_doctor_reports_members_as_unknown_without_the_management_api(cluster):
    site = CheckContext.of(settings_of(cluster.url, rabbitmq_management_url="http://127.0.0.1:1"))
    try:
        assert (await queue_members(site)).startswith("unknown: the management API at http://127.0.0.1:1")
    finally:
        await site.aclose()


@pytest.fixture
async def load(cluster, database_url, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with run_receiver_and_workers(cluster.url, database_url, source.url, tmp_path, workers=2) as found:
        yield found


async def kill_leader(cluster, load, numbers):
    """Kill the leader's node between two webhooks of a stream.

    Returns the node, and in seconds after the kill: each 503, the first 202, the first completed task.
    """
    third = len(numbers) // 3
    await load.send(numbers[:third])
    leader = await cluster.leader("outlast.file_processing")
    sending = asyncio.create_task(load.send(numbers[third:], pause=PAUSE_SECONDS))
    await load.wait_until(lambda: len(load.accepted) >= numbers[third] + 4)
    await leader.kill()
    killed = time.monotonic()
    await sending
    await load.wait_until(lambda: load.completed_after(killed))
    refused = [at - killed for at in load.refused if at > killed]
    answered = min(at for at in load.accepted.values() if at > killed) - killed
    return leader, refused, answered, min(load.completed_after(killed)) - killed


async def test_killing_queue_leaders_loses_and_duplicates_no_file(cluster, load, capsys):
    losses = []
    for numbers in (range(GENERATIONS // 2), range(GENERATIONS // 2, GENERATIONS)):
        node, refused, answered, completed_after = await kill_leader(cluster, load, numbers)
        losses.append((max(refused, default=0.0), completed_after))
        with capsys.disabled():
            sys.stdout.write(
                f"\nleader killed: {len(refused)} webhooks answered 503, the last after {losses[-1][0]:.1f} s, "
                f"the first 202 after {answered:.1f} s; workers went on after {completed_after:.1f} s\n"
            )
        if numbers.start == 0:
            await node.start()  # the second stays away
    await load.wait_until(lambda: len(load.completed) == GENERATIONS)
    assert len(load.accepted) == GENERATIONS
    assert load.completed.keys() == load.accepted.keys()
    counts = await load.sql.fetchrow(
        "select count(*) as files, count(distinct generation_id) as generations from outlast_files"
    )
    assert dict(counts) == {"files": GENERATIONS, "generations": GENERATIONS}
    assert max(last for last, _ in losses) <= SLOWER * ANSWERED_503_SECONDS
    assert max(completed_after for _, completed_after in losses) <= SLOWER * RESUMED_SECONDS
