"""`/dead-letters` over HTTP: the command's filters in the query, or in a JSON body where something is done."""

import json
from typing import Any

import structlog
from aiohttp import web

from handlers.errors import DatabaseUnavailableError
from schemas.dead_letters import BatchOutcome, BatchRequest, DeadLetterFilter, InvalidFilterError
from worker.broker.connection import BrokerUnavailableError
from worker.dead_letters.queue_lock import BusyError
from worker.dead_letters.service import PAST, DeadLetterService, NoArchiveError, Verb
from worker.observability.metrics import Metrics
from worker.settings import Settings
from worker.web.bearer_auth import BearerAuth, Handler
from worker.web.problem_details import problem

log = structlog.stdlib.get_logger(__name__)


class DeadRoutes:
    """The routes, for whoever has the API's token."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._access = BearerAuth(settings.api_token)
        self._desk = DeadLetterService(settings, "http", metrics)

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        for method, path, handler in (
            ("GET", "", self._list),
            ("GET", "/groups", self._groups),
            ("POST", "/replay", self._replay),
            ("POST", "/discard", self._discard),
        ):
            app.router.add_route(method, f"/dead-letters{path}", self._access.guarded(_answered(handler)))

    async def _list(self, request: web.Request) -> web.Response:
        items, total = await self._desk.items(DeadLetterFilter.read(_query(request)))
        return _listed(items, total)

    async def _groups(self, request: web.Request) -> web.Response:
        groups, total = await self._desk.groups(DeadLetterFilter.read(_query(request)))
        return _listed(groups, total)

    async def _replay(self, request: web.Request) -> web.Response:
        return await self._do("replay", request)

    async def _discard(self, request: web.Request) -> web.Response:
        return await self._do("discard", request)

    async def _do(self, verb: Verb, request: web.Request) -> web.Response:
        errand = BatchRequest.read(_query(request) | await _body(request))
        chosen = await self._desk.find(errand)
        if errand.dry_run:
            return web.json_response({"count": len({letter.item.id for letter in chosen}), "dry_run": True})
        async with self._desk.removal(verb, chosen, rate=errand.rate, abort=lambda: _left(request)) as removal:
            try:
                outcome = await removal.run()
            finally:
                log.info("dead letters", verb=verb, **removal.outcome().model_dump(mode="json", exclude={"kept"}))
        return web.json_response(_told(verb, outcome))


def _told(verb: Verb, outcome: BatchOutcome) -> dict[str, Any]:
    return {
        "count": outcome.matched,
        PAST[verb]: outcome.done,
        "kept": [kept.model_dump(mode="json") for kept in outcome.kept],
        "aborted": outcome.aborted,
        "dry_run": False,
    }


def _listed(items: list[Any], total: int) -> web.Response:
    return web.json_response({"items": [item.model_dump(mode="json") for item in items], "total": total})


def _answered(handler: Handler) -> Handler:
    """Return the handler with its errors turned into problem documents."""

    async def answer(request: web.Request) -> web.StreamResponse:
        again = {"Retry-After": "5"}
        try:
            return await handler(request)
        except InvalidFilterError as error:
            return problem(422, "invalid_filter", str(error), "mend it; nothing was touched")
        except BusyError as error:
            return problem(409, "busy", str(error), "send it again in a few seconds", again)
        except BrokerUnavailableError as error:
            return problem(503, "broker_unavailable", str(error), "no letter is lost; send it again later", again)
        except (NoArchiveError, DatabaseUnavailableError) as error:
            hint = "no letter left the queue that is not in the archive; send it again when there is one"
            return problem(503, "archive_unavailable", str(error), hint)

    return answer


def _query(request: web.Request) -> dict[str, Any]:
    found = {name: request.query.getall(name) for name in request.query}
    return {name: ",".join(values) if name == "ids" else _single(name, values) for name, values in found.items()}


def _single(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise InvalidFilterError(f"{name}: is given {len(values)} times")
    return values[0]


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    if not raw.strip():
        return {}
    try:
        found = json.loads(raw)
    except ValueError:
        raise InvalidFilterError("body: is no JSON; send an object with the filters, or nothing") from None
    if not isinstance(found, dict):
        raise InvalidFilterError("body: is no JSON object")
    return found


def _left(request: web.Request) -> bool:
    """Whether the client has gone away."""
    return request.transport is None or request.transport.is_closing()
