"""Outlast uses nothing that newer RabbitMQ refuses, and accepts queues that older releases declared."""

import aio_pika
import pytest
from pydantic import SecretStr
from yarl import URL

from deploy.local.rabbitmq import RabbitMQ
from schemas.dead_letters import DeadLetterFilter
from tests.broker.webhook_load import run_receiver_and_workers
from worker.broker import topology
from worker.broker.connection import Broker
from worker.dead_letters.queue_lock import DeadLetterQueue
from worker.doctor import broker as doctor_broker
from worker.doctor.cluster import queue_members
from worker.doctor.context import CheckContext
from worker.observability.metrics import Metrics
from worker.settings import Settings

DEPRECATED = (
    "amqp_address_v1",
    "classic_queue_mirroring",
    "global_qos",
    "management_metrics_collection",
    "queue_master_locator",
    "ram_node_type",
    "transient_nonexcl_queues",
)
"""The list of RabbitMQ 4.0 (`rabbitmqctl list_deprecated_features`); nodes before 3.12 do not have the setting."""
KNOWN_SINCE = (3, 12)
DELAYS = (1, 2)


def settings_of(url, **more):
    return Settings.load(_env_file=None, rabbitmq_url=SecretStr(url), retry_delays=DELAYS, **more)


@pytest.fixture
async def strict_node(rabbitmq, rabbitmq_url, tmp_path):
    """The AMQP URL and the management URL of a node that refuses deprecated features, if its release can."""
    if await rabbitmq.version() < KNOWN_SINCE:
        yield rabbitmq_url, rabbitmq.management_url
        return
    config = "".join(f"deprecated_features.permit.{name} = false\n" for name in DEPRECATED)
    node = RabbitMQ(tmp_path / "broker", ("rabbitmq_management",), config=config)
    await node.start()
    yield node.url, node.management_url
    await node.stop()


async def test_no_deprecated_broker_feature_is_used(strict_node, database_url, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url, management_url = strict_node
    async with run_receiver_and_workers(url, database_url, source.url, tmp_path) as load:
        await load.send(range(3))
        await load.wait_until(lambda: len(load.completed) == 3)
    settings = settings_of(url, rabbitmq_management_url=management_url)
    assert await DeadLetterQueue(settings).find(DeadLetterFilter()) == []
    site = CheckContext.of(settings)
    try:
        await doctor_broker.broker(site)
        assert "a test message was delivered" in await doctor_broker.broker_rights(site)
        assert "0 dead letters" in await doctor_broker.broker_topology(site)
        assert "in a cluster of 1" in (members := await queue_members(site)) or members.startswith("unknown")
    finally:
        await site.aclose()


def cluster_url(url):
    """The same node as one of four, so that new queues ask for more members than RabbitMQ's default."""
    port = URL(url).port
    return f"{url},localhost:{port},127.0.0.2:{port},127.0.0.3:{port}"


@pytest.fixture
async def connection(rabbitmq_url):
    async with await aio_pika.connect(rabbitmq_url) as found:
        yield found


NAMES = {spec.name for spec in topology.queues(DELAYS)}


async def connect_and_publish(url):
    """Connect as any process does, and publish to some of the queues."""
    async with Broker(settings_of(url), Metrics("test"), "test") as broker:
        await broker.wait_ready()
        for name in (topology.retry_name(1), topology.retry_name(2), topology.DEAD):
            await broker.publish(name, "maintenance", aio_pika.Message(b"x"), 20)


async def test_queues_set_a_group_size_only_in_a_cluster_of_more_than_three_nodes(connection, rabbitmq_url):
    await connect_and_publish(cluster_url(rabbitmq_url))
    assert await topology.queues_to_declare_with_members(connection, DELAYS, include_missing=False) == NAMES


async def test_queues_of_an_older_release_are_kept_and_new_ones_are_added(connection, rabbitmq_url):
    await topology.declare(await connection.channel(), DELAYS[:1])
    await connect_and_publish(cluster_url(rabbitmq_url))
    assert await topology.queues_to_declare_with_members(connection, DELAYS, include_missing=False) == {
        topology.retry_name(2)
    }


async def test_queues_with_a_group_size_are_accepted_with_a_single_node_url(connection, rabbitmq_url):
    await topology.declare(await connection.channel(), DELAYS[:1], NAMES)
    await connect_and_publish(rabbitmq_url)
    assert await topology.queues_to_declare_with_members(connection, DELAYS, include_missing=False) == NAMES - {
        topology.retry_name(2)
    }


@pytest.mark.parametrize("sized", [(), NAMES])
async def test_doctor_accepts_queues_with_and_without_a_group_size(connection, rabbitmq_url, sized):
    await topology.declare(await connection.channel(), DELAYS, sized)
    site = CheckContext.of(settings_of(rabbitmq_url))
    try:
        await doctor_broker.broker(site)
        assert (await doctor_broker.broker_topology(site)).startswith("0 jobs wait")
    finally:
        await site.aclose()


async def test_queue_with_unknown_arguments_is_named_in_the_error(connection, rabbitmq_url):
    await (await connection.channel()).declare_queue(topology.DEAD, durable=True)
    async with Broker(settings_of(rabbitmq_url), Metrics("test"), "test") as broker:
        with pytest.raises(topology.TopologyError, match=r"outlast\.dead exists .* delete it"):
            await broker.wait_ready()
