"""`/openapi.json`: the OpenAPI document of the receiver. Bodies come from the schemas; every route is listed here."""

import json
from importlib.metadata import version
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.dead_letters import BatchRequest, DeadLetterFilter
from schemas.http_responses import (
    Accepted,
    AnyObject,
    DeadLetterBatchResult,
    DeadLetterGroupList,
    DeadLetterList,
    Health,
    IgnoredEvent,
    Problem,
    TaskAccepted,
    TaskCancelled,
)
from schemas.submissions import Submission
from schemas.tasks import TaskState, WorkerStats

REF: Final = "#/components/schemas/{model}"
PROBLEM: Final = "application/problem+json"
Responses = dict[int, type[BaseModel] | str]
"""The responses of a route by HTTP status: the schema of a JSON body, or the content type of another body."""

UsedSchemas = dict[str, tuple[type[BaseModel], Literal["validation", "serialization"]]]
"""The schemas that routes refer to, by name: `validation` for request bodies, `serialization` for responses."""

WEBHOOK: Final[Responses] = {200: IgnoredEvent, 202: Accepted, 401: Problem, 422: Problem, 503: Problem}
FAL_CLOSED: Final[Responses] = {403: Problem}
TASK: Final[Responses] = {401: Problem, 404: Problem, 503: Problem}
DEAD_LETTERS: Final[Responses] = {401: Problem, 409: Problem, 422: Problem, 503: Problem}
BODY: Final[Responses] = {400: Problem, 408: Problem, 413: Problem, 415: Problem}
TASK_ID: Final = {"name": "task_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A submission that is repeated with the same key within a day is processed once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
LAST_EVENT: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was received. Only later events are sent.",
    "schema": {"type": "string", "pattern": "^[ -~]*$"},
}
BEARER: Final[list[dict[str, list[str]]]] = [{"api_token": []}]


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a receiver."""
    used: UsedSchemas = {}
    paths = _paths(used)
    _, schemas = models_json_schema([used[name] for name in sorted(used)], ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outlast",
            "version": version("outlast"),
            "description": "Stores FAL's expiring media in Supabase Storage.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "api_token": {"type": "http", "scheme": "bearer", "description": "API_TOKEN"},
                "webhook_secret": {"type": "apiKey", "in": "header", "name": "x-webhook-secret"},
            },
        },
    }


def add_openapi(app: web.Application) -> None:
    """Serve the document."""
    answer = json.dumps(document()).encode()

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=answer, content_type="application/json")

    app.router.add_get("/openapi.json", show, allow_head=False)


def _paths(used: UsedSchemas) -> dict[str, Any]:
    def route(
        summary: str,
        responses_by_status: Responses,
        *,
        body: type[BaseModel] | None = None,
        parameters: list[dict[str, Any]] | None = None,
        security: list[dict[str, list[str]]] | None = None,
    ) -> dict[str, Any]:
        responses = {str(status): _response(used, kind) for status, kind in responses_by_status.items()}
        operation: dict[str, Any] = {"summary": summary, "responses": responses, "security": security or []}
        if parameters:
            operation["parameters"] = parameters
        if body is not None:
            used[body.__name__] = (body, "validation")
            operation["requestBody"] = {"content": {"application/json": {"schema": _ref(body)}}, "required": True}
        return operation

    hooks: list[dict[str, list[str]]] = [{"webhook_secret": []}]
    batch: Responses = {200: DeadLetterBatchResult, **DEAD_LETTERS, **BODY}
    return {
        "/webhooks/supabase": {
            "post": route("Receive a Supabase webhook.", {**WEBHOOK, **BODY}, body=AnyObject, security=hooks)
        },
        "/webhooks/fal": {
            "post": route("Receive a webhook signed by FAL.", {**WEBHOOK, **FAL_CLOSED, **BODY}, body=AnyObject)
        },
        "/tasks": {
            "post": route(
                "Submit files of a generation.",
                {202: TaskAccepted, 401: Problem, 422: Problem, 503: Problem, **BODY},
                body=Submission,
                parameters=[KEY],
                security=BEARER,
            )
        },
        "/tasks/{task_id}": {
            "get": route("Get the state of a task.", {200: TaskState, **TASK}, parameters=[TASK_ID], security=BEARER),
            "delete": route(
                "Cancel a task. A task that has ended is not changed. A queued job with an unknown id will not run.",
                {200: TaskCancelled, **TASK},
                parameters=[TASK_ID],
                security=BEARER,
            ),
        },
        "/tasks/{task_id}/events": {
            "get": route(
                "Get a task's state now and after each change, as server-sent events, until the task ends.",
                {200: "text/event-stream", 204: "", **TASK},
                parameters=[TASK_ID, LAST_EVENT],
                security=BEARER,
            )
        },
        "/workers": {
            "get": route(
                "List workers and their jobs.", {200: WorkerStats, 401: Problem, 503: Problem}, security=BEARER
            )
        },
        "/dead-letters": {
            "get": route(
                "List dead letters.",
                {200: DeadLetterList, **DEAD_LETTERS},
                parameters=_query(DeadLetterFilter),
                security=BEARER,
            )
        },
        "/dead-letters/groups": {
            "get": route(
                "Group dead letters by error code, stage and host.",
                {200: DeadLetterGroupList, **DEAD_LETTERS},
                parameters=_query(DeadLetterFilter),
                security=BEARER,
            )
        },
        "/dead-letters/replay": {
            "post": route("Replay dead letters.", batch, parameters=_query(BatchRequest), security=BEARER)
        },
        "/dead-letters/discard": {
            "post": route("Move dead letters to the archive.", batch, parameters=_query(BatchRequest), security=BEARER)
        },
        "/console/": {"get": route("The operator's web page.", dict.fromkeys((200, 401, 403), "text/html"))},
        "/healthz": {"get": route("Report that the process runs.", {200: Health})},
        "/readyz": {"get": route("Report whether the process can accept webhooks.", {200: Health, 503: Problem})},
        "/metrics": {"get": route("Get metrics in Prometheus' text format.", {200: "text/plain", 401: Problem})},
        "/openapi.json": {"get": route("Get this document.", {200: AnyObject})},
    }


def _response(used: UsedSchemas, kind: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(kind, str):
        description = {"description": kind or "No further events."}
        return description | ({"content": {kind: {}}} if kind else {})
    used.setdefault(kind.__name__, (kind, "serialization"))
    content = PROBLEM if kind is Problem else "application/json"
    return {
        "description": (kind.__doc__ or "").partition("\n")[0],
        "content": {content: {"schema": _ref(kind)}},
    }


def _query(kind: type[BaseModel]) -> list[dict[str, Any]]:
    """Return a schema's fields as query parameters."""
    fields = kind.model_json_schema()["properties"]
    lists = {"ids": {"type": "string", "description": "Ids of dead letters, separated by commas."}}
    return [{"name": name, "in": "query", "schema": lists.get(name, field)} for name, field in fields.items()]


def _ref(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=kind.__name__)}
