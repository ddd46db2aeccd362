"""`/tasks` and `/workers` over HTTP, for whoever has the API's token."""

import json
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from handlers.database.client import Supabase
from handlers.errors import DatabaseUnavailableError
from schemas.tasks import TaskState
from worker.broker.connection import Broker, BrokerUnavailableError
from worker.settings import Settings
from worker.tasks.poller import Follower, Watcher
from worker.tasks.service import InvalidSubmissionError, KeyReusedError, TaskService, read_submission
from worker.web.bearer_auth import BearerAuth, Handler
from worker.web.problem_details import problem

KEY: Final = "Idempotency-Key"
MAX_KEY: Final = 255
MAX_WATCHERS: Final = 2000
"""Streams one receiver keeps open at most."""
RECONNECT_MILLISECONDS: Final = 2000
AGAIN: Final = {"Retry-After": "5"}


class TaskRoutes:
    """The routes. A receiver without SUPABASE_URL answers that it has no tasks."""

    def __init__(self, settings: Settings, supabase: Supabase | None, broker: Broker) -> None:
        self._access = BearerAuth(settings.api_token)
        self._supabase = supabase
        self._desk = None if supabase is None else TaskService(settings, supabase, broker)
        self._watcher = None if self._desk is None else Watcher(self._desk.records)

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        for method, path, handler in (
            ("POST", "/tasks", self._submit),
            ("GET", "/tasks/{task_id}", self._state),
            ("DELETE", "/tasks/{task_id}", self._cancel),
            ("GET", "/tasks/{task_id}/events", self._events),
            ("GET", "/workers", self._workers),
        ):
            app.router.add_route(method, path, self._access.guarded(_answered(handler)))
        app.on_shutdown.append(self._close)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            said = f"the body is {request.content_type}"
            return problem(415, "unsupported_type", said, "send Content-Type: application/json")
        submission = read_submission(**await _object(request))
        receipt = await self._open().submit(submission, _key(request))
        location = {"Location": f"/tasks/{receipt.task_id}"}
        return web.json_response({"task_id": str(receipt.task_id)}, status=202, headers=location)

    async def _state(self, request: web.Request) -> web.StreamResponse:
        state = await self._known(request)
        return _unknown(request) if state is None else _told(state)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        task_id = _task_id(request)
        if task_id is None:
            return _unknown(request)
        cancelled = await self._open().cancel(task_id)
        return web.json_response({"task_id": str(task_id), "cancelled": cancelled})

    async def _workers(self, _request: web.Request) -> web.StreamResponse:
        return _told(await self._open().workers())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send the state now and whenever it changes, until the task has ended or the client goes."""
        state = await self._known(request)
        if state is None or self._watcher is None:
            return _unknown(request)
        seen = request.headers.get(EventSourceResponse.DEFAULT_LAST_EVENT_HEADER)
        if state.ready and _event_id(state) == seen:
            return web.Response(status=204)  # there is nothing to come: a client must not ask again
        if self._watcher.followers >= MAX_WATCHERS:
            return problem(503, "too_many_watchers", f"{MAX_WATCHERS} streams are open", "poll the task", AGAIN)
        with self._watcher.follow(state.task_id) as follower:
            return await _stream(request, follower, state, seen)

    async def _known(self, request: web.Request) -> TaskState | None:
        task_id = _task_id(request)
        return None if task_id is None else await self._open().state(task_id)

    def _open(self) -> TaskService:
        if self._desk is None:
            raise DatabaseUnavailableError("this receiver has no SUPABASE_URL, and tasks live in Supabase")
        return self._desk

    async def _close(self, _app: web.Application) -> None:
        if self._watcher is not None:
            await self._watcher.aclose()


async def _stream(request: web.Request, follower: Follower, state: TaskState, seen: str | None) -> web.StreamResponse:
    follower.offer(state)
    async with sse_response(request) as stream:
        async for newer in follower.states():
            if _event_id(newer) == seen:
                continue
            try:
                await stream.send(newer.model_dump_json(), id=_event_id(newer), retry=RECONNECT_MILLISECONDS)
            except (ConnectionResetError, TimeoutError):
                break
    return stream


def _answered(handler: Handler) -> Handler:
    """Return the handler with its errors turned into problem documents."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except InvalidSubmissionError as error:
            return problem(422, error.code, str(error), "nothing was enqueued; mend it and send it again")
        except KeyReusedError as error:
            return problem(422, "idempotency_key_reused", str(error), "use a new key for another submission")
        except BrokerUnavailableError as error:
            return problem(503, "broker_unavailable", str(error), "send it again, with the same key", AGAIN)
        except DatabaseUnavailableError as error:
            return problem(503, "database_unavailable", str(error), "send it again, with the same key", AGAIN)

    return answer


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise InvalidSubmissionError("body: is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidSubmissionError("body: is no JSON object")
    return found


def _key(request: web.Request) -> str | None:
    key = request.headers.get(KEY)
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise InvalidSubmissionError(f"{KEY}: give 1 to {MAX_KEY} printable ASCII characters", "invalid_key")
    return key


def _task_id(request: web.Request) -> UUID | None:
    try:
        return UUID(request.match_info["task_id"])
    except ValueError:
        return None


def _event_id(state: TaskState) -> str:
    return state.updated_at.isoformat()


def _told(answer: Any) -> web.Response:  # noqa: ANN401 - any schema
    return web.json_response(text=answer.model_dump_json())


def _unknown(request: web.Request) -> web.Response:
    said = f"no task {request.match_info['task_id'][:64]!r} is on record"
    return problem(404, "unknown_task", said, "ask with the task_id that the submission was answered with")
