"""Commands to all workers at once, over the exchange `outlast.control`: cancel a task, stop gracefully.

Delivery is not guaranteed. A worker that misses a `cancel` learns of the cancelled task from its next heartbeat.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final, Literal
from uuid import UUID

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from pydantic import ValidationError

from handlers.database.task_records import TaskRecords
from schemas.base import Frozen
from worker.broker import topology
from worker.broker.connection import RECONNECT_SECONDS, Broker
from worker.broker.consuming import open_consuming_channel
from worker.broker.errors import (
    BEST_EFFORT_SECONDS,
    BROKER_ERRORS,
    BrokerUnavailableError,
    translate_broker_errors,
)

log = structlog.stdlib.get_logger(__name__)
CONTROL_SECONDS: Final = 10.0
"""Time limit for the declarations on the control connection."""
REBIND_SECONDS: Final = 5
"""Time between two declarations of the binding to the exchange."""


class Command(Frozen):
    """`cancel` needs a `task_id`; `stop` stops the worker with this name, or all workers if `worker` is None."""

    do: Literal["cancel", "stop"]
    task_id: UUID | None = None
    worker: str | None = None


async def send_command(broker: Broker, command: Command) -> bool:
    """Send a command to all workers; return False if the broker did not accept it."""
    body = command.model_dump_json(exclude_none=True).encode()
    message = Message(body, content_type="application/json", delivery_mode=DeliveryMode.NOT_PERSISTENT)
    try:
        await broker.publish(topology.CONTROL, "", message, BEST_EFFORT_SECONDS, mandatory=False)
    except BrokerUnavailableError as error:
        log.warning("command not sent to the workers", command=command.do, reason=str(error))
        return False
    return True


async def cancel_task(task_id: UUID, records: TaskRecords, broker: Broker) -> bool:
    """Cancel a task; return whether it is cancelled now. A task that has ended is not changed.

    Raises:
        DatabaseUnavailableError: the database did not answer. No command was sent to the workers.
    """
    cancelled = await records.cancel(task_id)
    if cancelled:
        await send_command(broker, Command(do="cancel", task_id=task_id))
    return cancelled


async def listen(broker: Broker, on_command: Callable[[Command], None]) -> None:
    """Receive commands until cancelled, over a separate connection that does not reconnect by itself.

    The queue is exclusive and is deleted with its connection. A reconnecting connection would declare the same name
    again, while RabbitMQ may still hold it for the old connection.
    """

    async def on_message(message: AbstractIncomingMessage) -> None:
        try:
            command = Command.model_validate_json(message.body)
        except ValidationError:
            log.warning("invalid control message ignored", size=len(message.body))
        else:
            on_command(command)

    while True:
        try:
            with translate_broker_errors():
                await _listen_once(broker, on_message)
        except ChannelNotFoundEntity:
            log.warning("the exchange is missing; declaring it again", exchange=topology.CONTROL)
            await broker.repair_topology()
        except BROKER_ERRORS as error:
            log.info("control connection lost", reason=type(error).__name__)
        except Exception:
            log.exception("control connection crashed")  # go on: nothing else receives commands
        await asyncio.sleep(RECONNECT_SECONDS)


async def _listen_once(broker: Broker, on_message: Callable[[AbstractIncomingMessage], Awaitable[None]]) -> None:
    """Receive commands over one connection until the connection ends. Each step has a time limit."""
    async with open_consuming_channel(broker) as consuming:
        async with asyncio.timeout(CONTROL_SECONDS):
            queue = await consuming.channel.declare_queue(exclusive=True, auto_delete=True)
            await queue.bind(topology.CONTROL)
            await queue.consume(on_message, no_ack=True)
        for second in itertools.count(1):
            await asyncio.sleep(RECONNECT_SECONDS)
            if consuming.ended:
                return
            if second % REBIND_SECONDS == 0:  # a deleted exchange takes its bindings with it, without a notice
                async with asyncio.timeout(CONTROL_SECONDS):
                    await queue.bind(topology.CONTROL)
