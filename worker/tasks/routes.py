"""`/tasks` and `/workers` over HTTP. They require the API token."""

import json
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response
from pydantic import BaseModel

from handlers.database.client import Supabase
from handlers.errors import DatabaseUnavailableError, RowRejectedError
from schemas.tasks import TaskState
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.settings import Settings
from worker.tasks.poller import Follower, TaskPoller
from worker.tasks.service import CancelOutcome, InvalidSubmissionError, KeyReusedError, TaskService, read_submission
from worker.web.bearer_auth import BearerAuth, RequestHandler
from worker.web.limits.connections import keep_open
from worker.web.problem_details import problem
from worker.web.request_body import read_body

KEY_HEADER: Final = "Idempotency-Key"
MAX_KEY_CHARACTERS: Final = 255
MAX_STREAMS: Final = 2000
"""Maximum number of open event streams per receiver."""
RECONNECT_MILLISECONDS: Final = 2000
RETRY_AFTER: Final = {"Retry-After": "5"}


class TaskRoutes:
    """The routes. Without SUPABASE_URL they answer 503, because tasks are stored in Supabase."""

    def __init__(self, settings: Settings, supabase: Supabase | None, broker: Broker) -> None:
        self._auth = BearerAuth(settings.api_token)
        self._supabase = supabase
        self._service = None if supabase is None else TaskService(settings, supabase, broker)
        self._poller = None if self._service is None else TaskPoller(self._service.records)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("POST", "/tasks", self._submit),
            ("GET", "/tasks/{task_id}", self._state),
            ("DELETE", "/tasks/{task_id}", self._cancel),
            ("GET", "/tasks/{task_id}/events", self._events),
            ("GET", "/workers", self._workers),
        ):
            app.router.add_route(method, path, self._auth.required(_with_problems(handler)))
        app.on_shutdown.append(self._close)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            detail = f"the Content-Type is {request.content_type}"
            return problem(415, "unsupported_type", detail, "send Content-Type: application/json")
        submission = read_submission(**await _json_object(request))
        receipt = await self._require_service().submit(submission, _idempotency_key(request))
        location = {"Location": f"/tasks/{receipt.task_id}"}
        return web.json_response({"task_id": str(receipt.task_id)}, status=202, headers=location)

    async def _state(self, request: web.Request) -> web.StreamResponse:
        state = await self._find(request)
        return _not_found(request) if state is None else _json_response(state)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        task_id = _task_id(request)
        if task_id is None:
            return _not_found(request)
        outcome = await self._require_service().cancel(task_id)
        if outcome is CancelOutcome.UNKNOWN:
            return _not_found(request, "; a job with this id that is still queued will not run")
        cancelled = outcome is CancelOutcome.CANCELLED
        return web.json_response({"task_id": str(task_id), "cancelled": cancelled})

    async def _workers(self, _request: web.Request) -> web.StreamResponse:
        return _json_response(await self._require_service().workers())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send the current state and each change, until the task has ended or the client disconnects."""
        state = await self._find(request)
        if state is None or self._poller is None:
            return _not_found(request)
        last_event_id = request.headers.get(EventSourceResponse.DEFAULT_LAST_EVENT_HEADER)
        if state.ready and _event_id(state) == last_event_id:
            return web.Response(status=204)  # no more events follow; 204 stops the client from reconnecting
        if self._poller.follower_count >= MAX_STREAMS:
            detail = f"{MAX_STREAMS} event streams are open, the maximum per receiver"
            return problem(503, "too_many_watchers", detail, "poll GET /tasks/{id} instead", RETRY_AFTER)
        with self._poller.follow(state.task_id) as follower:
            return await _stream(request, follower, state, last_event_id)

    async def _find(self, request: web.Request) -> TaskState | None:
        task_id = _task_id(request)
        return None if task_id is None else await self._require_service().state(task_id)

    def _require_service(self) -> TaskService:
        if self._service is None:
            raise DatabaseUnavailableError("SUPABASE_URL is not set for this receiver; tasks are stored in Supabase")
        return self._service

    async def _close(self, _app: web.Application) -> None:
        if self._poller is not None:
            await self._poller.aclose()


async def _stream(
    request: web.Request, follower: Follower, state: TaskState, last_event_id: str | None
) -> web.StreamResponse:
    keep_open(request)
    follower.offer(state)
    async with sse_response(request) as stream:
        async for newer in follower.states():
            if _event_id(newer) == last_event_id:
                continue
            try:
                await stream.send(newer.model_dump_json(), id=_event_id(newer), retry=RECONNECT_MILLISECONDS)
            except (ConnectionResetError, TimeoutError):
                break
    return stream


def _with_problems(handler: RequestHandler) -> RequestHandler:
    """Return a handler that answers errors with problem details."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except InvalidSubmissionError as error:
            return problem(422, error.code, str(error), "nothing was enqueued; correct the submission")
        except KeyReusedError as error:
            return problem(422, "idempotency_key_reused", str(error), "use a new key for each submission")
        except BrokerUnavailableError as error:
            return problem(503, "broker_unavailable", str(error), "repeat the request with the same key", RETRY_AFTER)
        except RowRejectedError as error:
            return problem(422, error.code, str(error), "the database refuses these values; correct them")
        except DatabaseUnavailableError as error:
            return problem(503, "database_unavailable", str(error), "repeat the request with the same key", RETRY_AFTER)

    return handle


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        parsed = json.loads(await read_body(request))
    except (ValueError, RecursionError):
        raise InvalidSubmissionError("body: is not JSON") from None
    if not isinstance(parsed, dict):
        raise InvalidSubmissionError("body: is not a JSON object")
    return parsed


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get(KEY_HEADER)
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidSubmissionError(
            f"{KEY_HEADER}: must have 1 to {MAX_KEY_CHARACTERS} printable ASCII characters", "invalid_key"
        )
    return key


def _task_id(request: web.Request) -> UUID | None:
    try:
        return UUID(request.match_info["task_id"])
    except ValueError:
        return None


def _event_id(state: TaskState) -> str:
    return state.updated_at.isoformat()


def _json_response(model: BaseModel) -> web.Response:
    return web.json_response(text=model.model_dump_json())


def _not_found(request: web.Request, more: str = "") -> web.Response:
    detail = f"there is no task with the id {request.match_info['task_id'][:64]!r}{more}"
    return problem(404, "unknown_task", detail, "use the task_id from the response to the submission")
