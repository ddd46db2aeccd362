"""RabbitMQ: can it be reached, is it new enough, is what stands there ours, may we use it?"""

import asyncio
import re
from typing import Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from worker.broker import topology
from worker.broker.address import host_port, vhost
from worker.broker.connect_failure import explain
from worker.broker.errors import BROKER_ERRORS
from worker.broker.nodes import Nodes, connect
from worker.doctor.context import CheckContext
from worker.doctor.result import Concern, Failure

OLDEST: Final = (3, 10)
CONFIRM_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 8.0


async def broker(site: CheckContext) -> str:
    """Connect as a worker would."""
    nodes = Nodes.from_settings(site.settings)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            site.broker = await connect(nodes, "outlast doctor")
    except BROKER_ERRORS as error:
        reason = explain(error, nodes.last)
        raise Failure(reason.problem, reason.remedy) from error
    site.node = nodes.last
    others = f", one of {len(nodes)} nodes" if len(nodes) > 1 else ""
    return f"{host_port(nodes.last)}{others}, virtual host {vhost(nodes.last)!r}"


async def broker_version(site: CheckContext) -> str:
    """Quorum queues as we use them came with 3.10."""
    told = getattr(_connected(site).transport, "connection", None)
    properties = getattr(told, "server_properties", {})
    product, version = str(properties.get("product", "?")), str(properties.get("version", "?"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if product != "RabbitMQ":
        raise Concern(f"{product} {version} is not RabbitMQ", "use RabbitMQ 3.10 or newer: quorum queues are needed")
    if numbers < OLDEST:
        raise Failure(f"RabbitMQ {version} is too old", "upgrade RabbitMQ to 3.10 or newer")
    return f"{product} {version}"


async def broker_topology(site: CheckContext) -> str:
    """What is declared must be declared as we do; what is not there yet is made by the first process that starts."""
    delays = site.settings.retry_delays
    absent = 0
    for name, kind in topology.exchanges(delays).items():
        absent += not await _matches_exchange(site, name, kind)
    waiting = dead = consumers = 0
    for spec in topology.queues(delays):
        try:
            if await topology.declared_as(_connected(site), spec) is None:
                absent += 1
                continue
            channel = await _connected(site).channel()
            found = (await channel.declare_queue(spec.name, passive=True)).declaration_result
        except topology.TopologyError as error:
            raise _differs("queue", spec.name, error.__cause__ or error) from error
        except ChannelAccessRefused as error:
            raise _refused(site, error) from error
        await channel.close()
        if spec.name == topology.DEAD:
            dead = found.message_count or 0
        elif spec.exchange == topology.WORK:
            waiting += found.message_count or 0
            consumers += found.consumer_count or 0
    state = f"{waiting:,} jobs wait, {dead:,} dead letters, {consumers} consumers"
    if absent:
        return f"{absent} queues and exchanges are not made yet: the first receiver or worker makes them; {state}"
    if waiting and not consumers:
        raise Concern(f"{state}: nobody works on them", "start `outlast worker`")
    return state


async def broker_rights(site: CheckContext) -> str:
    """Make, use and drop an exchange and a queue of our naming: rights, and whether messages are taken at all."""
    name = f"outlast.doctor.{uuid4().hex}"
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            channel = await _connected(site).channel()
            exchange = await channel.declare_exchange(name, "fanout", auto_delete=True)
            queue = await channel.declare_queue(name, exclusive=True, auto_delete=True)
            await queue.bind(exchange)
            await exchange.publish(aio_pika.Message(b"doctor"), "")
            await queue.get(no_ack=True)
            await queue.delete()
            await channel.close()
    except ChannelAccessRefused as error:
        raise _refused(site, error) from error
    except TimeoutError as error:
        remedy = "look at its memory and disk alarms: rabbitmqctl status"
        raise Failure(f"RabbitMQ took no message within {CONFIRM_SECONDS:g} s", remedy) from error
    return "may configure, write and read; a message went through"


async def _matches_exchange(site: CheckContext, name: str, kind: aio_pika.ExchangeType) -> bool:
    channel = await _connected(site).channel()
    try:
        await channel.declare_exchange(name, kind, passive=True)
        await channel.declare_exchange(name, kind, durable=True)
    except ChannelNotFoundEntity:
        return False
    except ChannelPreconditionFailed as error:
        raise _differs("exchange", name, error) from error
    except ChannelAccessRefused as error:
        raise _refused(site, error) from error
    await channel.close()
    return True


def _connected(site: CheckContext) -> AbstractConnection:
    if site.broker is None:
        raise RuntimeError("the check `broker` comes first")
    return site.broker


def _differs(what: str, name: str, error: BaseException) -> Failure:
    remedy = f"empty and delete it (rabbitmqctl delete_{what} {name}), or use another virtual host in RABBITMQ_URL"
    return Failure(f"the {what} {name} exists with other arguments: {error}", remedy)


def _refused(site: CheckContext, error: Exception) -> Failure:
    node, right = site.settings.rabbitmq_nodes[0], "'^outlast.*'"
    remedy = f"rabbitmqctl set_permissions -p {vhost(node)} {node.user or 'guest'} {right} {right} {right}"
    return Failure(f"rights are missing: {error}", remedy)
