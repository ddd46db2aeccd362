"""What is told to all workers at once, over `outlast.control`: cancel a task, stop gently.

Nothing depends on it: a worker that misses a message hears of a cancelled task by its next heartbeat.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError

from handlers.database.task_records import TaskRecords
from schemas.base import Frozen
from worker.broker import topology
from worker.broker.connection import (
    BROKER_ERRORS,
    RECONNECT_SECONDS,
    Broker,
    BrokerUnavailableError,
    translate_broker_errors,
)

log = structlog.stdlib.get_logger(__name__)
TELL_SECONDS = 5.0
STEP_SECONDS = 10.0


class Command(Frozen):
    """`cancel_task` wants a `task_id`; `stop` is for every worker, or for the one named."""

    do: Literal["cancel", "stop"]
    task_id: UUID | None = None
    worker: str | None = None


async def send_command(broker: Broker, command: Command) -> bool:
    """Tell all workers; return False when the broker takes nothing now."""
    body = command.model_dump_json(exclude_none=True).encode()
    message = Message(body, content_type="application/json", delivery_mode=DeliveryMode.NOT_PERSISTENT)
    try:
        await broker.publish(topology.CONTROL, "", message, TELL_SECONDS, mandatory=False)
    except BrokerUnavailableError as error:
        log.warning("workers were not told", command=command.do, reason=str(error))
        return False
    return True


async def cancel_task(task_id: UUID, records: TaskRecords, broker: Broker) -> bool:
    """Cancel a task, wherever it is; return whether it is cancelled now (one that has ended stays as it is).

    Raises:
        DatabaseUnavailableError: nothing was cancelled.
    """
    cancelled = await records.cancel(task_id)
    if cancelled:
        await send_command(broker, Command(do="cancel", task_id=task_id))
    return cancelled


async def listen(broker: Broker, on_command: Callable[[Command], None]) -> None:
    """Hear commands until cancelled, over a connection of its own.

    The queue is exclusive and has the connection's lifetime: one that heals itself would find its own name taken.
    """

    async def heard(message: AbstractIncomingMessage) -> None:
        try:
            command = Command.model_validate_json(message.body)
        except ValidationError:
            log.warning("a control message cannot be read", size=len(message.body))
        else:
            on_command(command)

    while True:
        try:
            with translate_broker_errors():
                await _hear(broker, heard)
        except BROKER_ERRORS as error:
            log.info("control connection lost", reason=type(error).__name__)
        except Exception:
            log.exception("control connection crashed")  # and yet nobody else would listen
        await asyncio.sleep(RECONNECT_SECONDS)


async def _hear(broker: Broker, heard: Callable[[AbstractIncomingMessage], Awaitable[None]]) -> None:
    """Hear over one connection for as long as it lasts; each step has its time limit, since a broker may die in any."""
    connection = await broker.open_connection()
    try:
        async with asyncio.timeout(STEP_SECONDS):
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
            await queue.bind(topology.CONTROL)
            await queue.consume(heard, no_ack=True)
        while not channel.is_closed and not connection.is_closed:  # noqa: ASYNC110 - asked, for an end in mid-setup fires nothing
            await asyncio.sleep(RECONNECT_SECONDS)
    finally:
        with contextlib.suppress(*BROKER_ERRORS):
            await asyncio.wait_for(connection.close(), STEP_SECONDS)
