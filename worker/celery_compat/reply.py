"""Results in Celery's format, for `AsyncResult.get()` with the `rpc://` backend: one message to the producer's queue.

The format is that of celery.backends.base (`get_result_meta`): task_id, status, result, traceback, children.
"""

import json
from typing import Any

import structlog
from aio_pika import DeliveryMode, Message

from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from schemas.jobs import CeleryReplyAddress, Job
from schemas.tasks import TaskState, TaskStatus
from worker.broker.connection import Broker
from worker.broker.errors import BEST_EFFORT_SECONDS, BrokerUnavailableError

log = structlog.stdlib.get_logger(__name__)


async def send_result(broker: Broker, records: TaskQueries, job: Job) -> None:
    """Send the result of a job's task if the task has ended and a Celery producer waits for it.

    If sending fails, it is only logged: the task's state remains in the database.
    """
    reply = job.reply
    if reply is None:
        return
    try:
        state = (await records.states([job.task_id])).get(job.task_id)
    except FileProcessingError as error:
        log.warning("result not sent to Celery producer", code=error.code, task_id=str(job.task_id))
        return
    if state is not None and state.ready:
        await send_reply(broker, reply, _result(reply, state))


async def send_reply(broker: Broker, reply: CeleryReplyAddress | None, body: dict[str, Any]) -> None:
    """Send a result to the producer's queue. A failure is only logged."""
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
        await broker.send_to_queue(reply.to, message, BEST_EFFORT_SECONDS)
    except BrokerUnavailableError as error:
        log.warning("result not sent to Celery producer", reason=str(error))


def failure_body(reply: CeleryReplyAddress | None, message: str, kind: str = "FileProcessingError") -> dict[str, Any]:
    """Return the result that `get()` raises as an exception of this type."""
    return _body(reply, "FAILURE", {"exc_type": kind, "exc_message": [message], "exc_module": "handlers.errors"})


def revoked_body(reply: CeleryReplyAddress | None, reason: str) -> dict[str, Any]:
    """Return the result that `get()` raises as TaskRevokedError."""
    error = {"exc_type": "TaskRevokedError", "exc_message": [reason], "exc_module": "celery.exceptions"}
    return _body(reply, "REVOKED", error)


def _result(reply: CeleryReplyAddress, state: TaskState) -> dict[str, Any]:
    if state.status is TaskStatus.CANCELLED:
        return revoked_body(reply, "cancelled")
    if state.result is None or state.status is TaskStatus.FAILED:
        return failure_body(reply, state.error or "the task failed")
    result = {"task_id": str(state.task_id), "status": state.status, **state.result.model_dump(mode="json")}
    return _body(reply, "SUCCESS", result)


def _body(reply: CeleryReplyAddress | None, status: str, result: dict[str, Any]) -> dict[str, Any]:
    correlation = "" if reply is None else reply.correlation_id
    return {"task_id": correlation, "status": status, "result": result, "traceback": None, "children": []}
