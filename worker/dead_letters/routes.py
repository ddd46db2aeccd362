"""`/dead-letters` over HTTP. Filters are in the query; `replay` and `discard` also accept them as a JSON body."""

import json
from typing import Any

import structlog
from aiohttp import web

from handlers.errors import DatabaseUnavailableError, RowRejectedError
from schemas.dead_letters import BatchOutcome, BatchRequest, DeadLetterFilter, InvalidFilterError
from worker.broker.errors import BrokerUnavailableError
from worker.dead_letters.operation import recorded_batch
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import PAST_TENSE, DeadLetterService, NoArchiveError, Verb
from worker.observability.metrics import Metrics
from worker.settings import Settings
from worker.web.bearer_auth import BearerAuth, RequestHandler
from worker.web.limits.connections import keep_open
from worker.web.problem_details import problem
from worker.web.request_body import read_body

log = structlog.stdlib.get_logger(__name__)


class DeadLetterRoutes:
    """The routes below `/dead-letters`. They require the API token."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._auth = BearerAuth(settings.api_token)
        self._service = DeadLetterService(settings, "http", metrics)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "", self._list),
            ("GET", "/groups", self._groups),
            ("POST", "/replay", self._replay),
            ("POST", "/discard", self._discard),
        ):
            app.router.add_route(method, f"/dead-letters{path}", self._auth.required(_with_problems(handler)))

    async def _list(self, request: web.Request) -> web.Response:
        items, total = await self._service.items(DeadLetterFilter.parse(_query(request)))
        return _list_response(items, total)

    async def _groups(self, request: web.Request) -> web.Response:
        groups, total = await self._service.groups(DeadLetterFilter.parse(_query(request)))
        return _list_response(groups, total)

    async def _replay(self, request: web.Request) -> web.Response:
        return await self._run_batch("replay", request)

    async def _discard(self, request: web.Request) -> web.Response:
        return await self._run_batch("discard", request)

    async def _run_batch(self, verb: Verb, request: web.Request) -> web.Response:
        """Replay or discard, until done or until the client disconnects."""
        keep_open(request)  # with a rate it may take hours
        batch_request = BatchRequest.parse(_query(request) | await _body(request))
        selected = await self._service.find(batch_request)
        if batch_request.dry_run:
            return web.json_response({"count": len({summary.item.id for summary in selected}), "dry_run": True})
        async with recorded_batch(
            self._service, verb, batch_request, selected, should_abort=lambda: _is_disconnected(request)
        ) as (batch, _):
            try:
                outcome = await batch.run()
            finally:
                log.info("dead letters", verb=verb, **batch.outcome().model_dump(mode="json", exclude={"kept"}))
        return web.json_response(_outcome_json(verb, outcome))


def _outcome_json(verb: Verb, outcome: BatchOutcome) -> dict[str, Any]:
    return {
        "count": outcome.matched,
        PAST_TENSE[verb]: outcome.done,
        "kept": [kept.model_dump(mode="json") for kept in outcome.kept],
        "aborted": outcome.aborted,
        "dry_run": False,
    }


def _list_response(items: list[Any], total: int) -> web.Response:
    return web.json_response({"items": [item.model_dump(mode="json") for item in items], "total": total})


def _with_problems(handler: RequestHandler) -> RequestHandler:
    """Return a handler that answers errors with problem details."""

    async def handle(request: web.Request) -> web.StreamResponse:
        retry_after = {"Retry-After": "5"}
        try:
            return await handler(request)
        except InvalidFilterError as error:
            return problem(422, "invalid_filter", str(error), "correct the filter; nothing was changed")
        except BusyError as error:
            return problem(409, "busy", str(error), "send the request again in a few seconds", retry_after)
        except BrokerUnavailableError as error:
            hint = "no dead letter is lost; send the request again later"
            return problem(503, "broker_unavailable", str(error), hint, retry_after)
        except (NoArchiveError, DatabaseUnavailableError, RowRejectedError) as error:
            hint = "only archived dead letters were removed from the queue; send the request again later"
            return problem(503, "archive_unavailable", str(error), hint)

    return handle


def _query(request: web.Request) -> dict[str, Any]:
    values = {name: request.query.getall(name) for name in request.query}
    return {name: ",".join(texts) if name == "ids" else _single(name, texts) for name, texts in values.items()}


def _single(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise InvalidFilterError(f"{name}: is given {len(values)} times; give it once")
    return values[0]


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await read_body(request)
    if not raw.strip():
        return {}
    try:
        parsed = json.loads(raw)
    except ValueError:
        raise InvalidFilterError("body: is not JSON; send an object with the filters, or no body") from None
    if not isinstance(parsed, dict):
        raise InvalidFilterError("body: is not a JSON object; send an object with the filters, or no body")
    return parsed


def _is_disconnected(request: web.Request) -> bool:
    """Whether the client has closed the connection."""
    return request.transport is None or request.transport.is_closing()
