"""Results in Celery's shape, for `AsyncResult.get()` over the `rpc://` backend: one message on the sender's queue.

The shape is that of celery.backends.base (`get_result_meta`): task_id, status, result, traceback, children.
"""

import json
from typing import Any

import structlog
from aio_pika import DeliveryMode, Message

from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from schemas.jobs import CeleryReply, Job
from schemas.tasks import TaskState, TaskStatus
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError

log = structlog.stdlib.get_logger(__name__)
SEND_SECONDS = 5.0


async def send_result(broker: Broker, records: TaskQueries, job: Job) -> None:
    """Tell whoever waits for this job's task how it ended; nothing when nobody does, or it has not ended.

    A sender that cannot be told loses nothing: the task's state is in the database.
    """
    reply = job.reply
    if reply is None:
        return
    try:
        state = (await records.states([job.task_id])).get(job.task_id)
    except FileProcessingError as error:
        log.warning("a Celery sender was not told", code=error.code, task_id=str(job.task_id))
        return
    if state is not None and state.ready:
        await send_reply(broker, reply, _result(reply, state))


async def send_reply(broker: Broker, reply: CeleryReply | None, body: dict[str, Any]) -> None:
    """Send a result; a sender that is gone is none of our trouble."""
    if reply is None:
        return
    message = Message(
        json.dumps(body).encode(),
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=reply.correlation_id,
        delivery_mode=DeliveryMode.NOT_PERSISTENT,
    )
    try:
        await broker.send_to_queue(reply.to, message, SEND_SECONDS)
    except BrokerUnavailableError as error:
        log.warning("a Celery sender was not told", reason=str(error))


def failure_body(reply: CeleryReply | None, said: str, kind: str = "FileProcessingError") -> dict[str, Any]:
    """Return the result that `get()` raises as an exception of this kind."""
    return _body(reply, "FAILURE", {"exc_type": kind, "exc_message": [said], "exc_module": "handlers.errors"})


def revoked_body(reply: CeleryReply | None, why: str) -> dict[str, Any]:
    """Return the result that `get()` raises as TaskRevokedError."""
    told = {"exc_type": "TaskRevokedError", "exc_message": [why], "exc_module": "celery.exceptions"}
    return _body(reply, "REVOKED", told)


def _result(reply: CeleryReply, state: TaskState) -> dict[str, Any]:
    if state.status is TaskStatus.CANCELLED:
        return revoked_body(reply, "cancelled")
    if state.result is None or state.status is TaskStatus.FAILED:
        return failure_body(reply, state.error or "the task failed")
    told = {"task_id": str(state.task_id), "status": state.status, **state.result.model_dump(mode="json")}
    return _body(reply, "SUCCESS", told)


def _body(reply: CeleryReply | None, status: str, result: dict[str, Any]) -> dict[str, Any]:
    correlation = "" if reply is None else reply.correlation_id
    return {"task_id": correlation, "status": status, "result": result, "traceback": None, "children": []}
