"""Checks of RabbitMQ: connection, version, queues and exchanges, permissions."""

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
from worker.doctor.result import CheckFailure, CheckWarning

MIN_VERSION: Final = (3, 10)
CONFIRM_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 8.0


async def broker(context: CheckContext) -> str:
    """Connect as a worker does. The connection is kept for later checks."""
    nodes = Nodes.from_settings(context.settings)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            context.broker = await connect(nodes, "outlast doctor")
    except BROKER_ERRORS as error:
        reason = explain(error, nodes.last)
        raise CheckFailure(reason.problem, reason.remedy) from error
    context.node = nodes.last
    others = f", one of {len(nodes)} nodes" if len(nodes) > 1 else ""
    return f"{host_port(nodes.last)}{others}, virtual host {vhost(nodes.last)!r}"


async def broker_version(context: CheckContext) -> str:
    """RabbitMQ must have at least version 3.10, for the quorum queues we use."""
    amqp_connection = getattr(_connection(context).transport, "connection", None)
    properties = getattr(amqp_connection, "server_properties", {})
    product, version = str(properties.get("product", "?")), str(properties.get("version", "?"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if product != "RabbitMQ":
        raise CheckWarning(
            f"{product} {version} is not RabbitMQ", "use RabbitMQ 3.10 or newer: quorum queues are needed"
        )
    if numbers < MIN_VERSION:
        raise CheckFailure(f"RabbitMQ {version} is too old", "upgrade RabbitMQ to 3.10 or newer")
    return f"{product} {version}"


async def broker_topology(context: CheckContext) -> str:
    """Existing queues and exchanges must have the right arguments. Missing ones are declared by the first process."""
    delays = context.settings.retry_delays
    missing = 0
    for name, kind in topology.exchanges(delays).items():
        missing += not await _matches_exchange(context, name, kind)
    waiting = dead = consumers = 0
    for spec in topology.queues(delays):
        try:
            if await topology.declared_as(_connection(context), spec) is None:
                missing += 1
                continue
            channel = await _connection(context).channel()
            declared = (await channel.declare_queue(spec.name, passive=True)).declaration_result
        except topology.TopologyError as error:
            raise _differs(context, "queue", spec.name, error.__cause__ or error) from error
        except ChannelAccessRefused as error:
            raise _refused(context, error) from error
        await channel.close()
        if spec.name == topology.DEAD:
            dead = declared.message_count or 0
        elif spec.exchange == topology.WORK:
            waiting += declared.message_count or 0
            consumers += declared.consumer_count or 0
    state = f"{waiting:,} jobs waiting, {dead:,} dead letters, {consumers} consumers"
    if missing:
        return f"{missing} queues and exchanges do not exist yet; the first receiver or worker declares them; {state}"
    if waiting and not consumers:
        raise CheckWarning(f"{state}: no worker consumes the jobs", "start `outlast worker`")
    return state


async def broker_rights(context: CheckContext) -> str:
    """Declare, use and delete a queue with our prefix: checks the permissions, and that messages are accepted."""
    name = f"outlast.doctor.{uuid4().hex}"
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            channel = await _connection(context).channel()
            exchange = await channel.declare_exchange(name, "fanout", auto_delete=True)
            queue = await channel.declare_queue(name, exclusive=True, auto_delete=True)
            await queue.bind(exchange)
            await exchange.publish(aio_pika.Message(b"doctor"), "")
            await queue.get(no_ack=True)
            await queue.delete()
            await channel.close()
    except ChannelAccessRefused as error:
        raise _refused(context, error) from error
    except TimeoutError as error:
        remedy = "check its memory and disk alarms: rabbitmqctl status"
        raise CheckFailure(f"RabbitMQ accepted no message within {CONFIRM_SECONDS:g} s", remedy) from error
    return "can configure, write and read; a test message was delivered"


async def _matches_exchange(context: CheckContext, name: str, kind: aio_pika.ExchangeType) -> bool:
    channel = await _connection(context).channel()
    try:
        await channel.declare_exchange(name, kind, passive=True)
        await channel.declare_exchange(name, kind, durable=True)
    except ChannelNotFoundEntity:
        return False
    except ChannelPreconditionFailed as error:
        raise _differs(context, "exchange", name, error) from error
    except ChannelAccessRefused as error:
        raise _refused(context, error) from error
    await channel.close()
    return True


def _connection(context: CheckContext) -> AbstractConnection:
    if context.broker is None:
        raise RuntimeError("the check `broker` must run first")
    return context.broker


def _differs(context: CheckContext, kind: str, name: str, error: BaseException) -> CheckFailure:
    command = f"rabbitmqctl delete_queue {name} -p {vhost(context.settings.rabbitmq_nodes[0])}"
    delete = (
        f"empty and delete it ({command})" if kind == "queue" else "delete it (RabbitMQ's management UI, Exchanges)"
    )
    remedy = f"{delete}, or use another virtual host in RABBITMQ_URL"
    return CheckFailure(f"the {kind} {name} exists with other arguments: {error}", remedy)


def _refused(context: CheckContext, error: Exception) -> CheckFailure:
    node, pattern = context.settings.rabbitmq_nodes[0], "'^outlast.*'"
    remedy = f"rabbitmqctl set_permissions -p {vhost(node)} {node.user or 'guest'} {pattern} {pattern} {pattern}"
    return CheckFailure(f"permissions are missing: {error}", remedy)
