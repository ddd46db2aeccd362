"""`/openapi.json`: the HTTP API described, its bodies generated from the schemas. Each route stands here once."""

from importlib.metadata import version
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.dead_letters import BatchRequest, DeadLetterFilter
from schemas.http_responses import (
    Accepted,
    AnyObject,
    DeadLetterGroupList,
    DeadLetterList,
    Health,
    IgnoredEvent,
    MatchedCount,
    Problem,
    TaskAccepted,
    TaskCancelled,
)
from schemas.submissions import Submission
from schemas.tasks import TaskState, WorkerStats

REF: Final = "#/components/schemas/{model}"
PROBLEM: Final = "application/problem+json"
Answers = dict[int, type[BaseModel] | str]
"""By status: the schema of a JSON answer, or the content type of another; Problem where it is an error."""

Used = dict[str, tuple[type[BaseModel], Literal["validation", "serialization"]]]
"""The schemas named, each with what it is for: to be read, or to be answered."""

WEBHOOK: Final[Answers] = {200: IgnoredEvent, 202: Accepted, 401: Problem, 422: Problem, 503: Problem}
TASK: Final[Answers] = {401: Problem, 404: Problem, 503: Problem}
LETTERS: Final[Answers] = {401: Problem, 409: Problem, 422: Problem, 503: Problem}
BODY: Final[Answers] = {413: Problem, 415: Problem}
TASK_ID: Final = {"name": "task_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same submission with the same key, within a day, is one.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
LAST_EVENT: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event seen: only what is newer is sent.",
    "schema": {"type": "string", "pattern": "^[ -~]*$"},
}
BEARER: Final[list[dict[str, list[str]]]] = [{"api_token": []}]


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a receiver."""
    used: Used = {}
    paths = _paths(used)
    _, schemas = models_json_schema([used[name] for name in sorted(used)], ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outlast",
            "version": version("outlast"),
            "description": "Brings FAL's expiring media home to Supabase Storage.",
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
    answer = document()

    async def show(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    app.router.add_get("/openapi.json", show, allow_head=False)


def _paths(used: Used) -> dict[str, Any]:
    def route(
        said: str,
        answers: Answers,
        *,
        body: type[BaseModel] | None = None,
        parameters: list[dict[str, Any]] | None = None,
        security: list[dict[str, list[str]]] | None = None,
    ) -> dict[str, Any]:
        told = {str(status): _answer(used, kind) for status, kind in answers.items()}
        operation: dict[str, Any] = {"summary": said, "responses": told, "security": security or []}
        if parameters:
            operation["parameters"] = parameters
        if body is not None:
            used[body.__name__] = (body, "validation")
            operation["requestBody"] = {"content": {"application/json": {"schema": _ref(body)}}, "required": True}
        return operation

    hooks: list[dict[str, list[str]]] = [{"webhook_secret": []}]
    errand: Answers = {200: MatchedCount, **LETTERS, 413: Problem}
    return {
        "/webhooks/supabase": {
            "post": route("A Database Webhook of Supabase's.", {**WEBHOOK, **BODY}, body=AnyObject, security=hooks)
        },
        "/webhooks/fal": {"post": route("A webhook of FAL's, signed by FAL.", {**WEBHOOK, **BODY}, body=AnyObject)},
        "/tasks": {
            "post": route(
                "Queue files of a generation.",
                {202: TaskAccepted, 401: Problem, 422: Problem, 503: Problem, **BODY},
                body=Submission,
                parameters=[KEY],
                security=BEARER,
            )
        },
        "/tasks/{task_id}": {
            "get": route("How a task is.", {200: TaskState, **TASK}, parameters=[TASK_ID], security=BEARER),
            "delete": route(
                "Cancel a task; one that has ended stays as it is.",
                {200: TaskCancelled, **TASK},
                parameters=[TASK_ID],
                security=BEARER,
            ),
        },
        "/tasks/{task_id}/events": {
            "get": route(
                "A task's state now and whenever it changes, as server-sent events, until it has ended.",
                {200: "text/event-stream", 204: "", **TASK},
                parameters=[TASK_ID, LAST_EVENT],
                security=BEARER,
            )
        },
        "/workers": {
            "get": route("Workers and what they run.", {200: WorkerStats, 401: Problem, 503: Problem}, security=BEARER)
        },
        "/dead-letters": {
            "get": route(
                "List dead letters.",
                {200: DeadLetterList, **LETTERS},
                parameters=_query(DeadLetterFilter),
                security=BEARER,
            )
        },
        "/dead-letters/groups": {
            "get": route(
                "Dead letters by what they failed with.",
                {200: DeadLetterGroupList, **LETTERS},
                parameters=_query(DeadLetterFilter),
                security=BEARER,
            )
        },
        "/dead-letters/replay": {
            "post": route("Put dead letters back to work.", errand, parameters=_query(BatchRequest), security=BEARER)
        },
        "/dead-letters/discard": {
            "post": route("Move dead letters to the archive.", errand, parameters=_query(BatchRequest), security=BEARER)
        },
        "/console/": {"get": route("The console, for people.", dict.fromkeys((200, 401, 403), "text/html"))},
        "/healthz": {"get": route("Whether the process is alive.", {200: Health})},
        "/readyz": {"get": route("Whether it can do its work.", {200: Health, 503: Problem})},
        "/metrics": {"get": route("Metrics for Prometheus.", {200: "text/plain"})},
        "/openapi.json": {"get": route("This document.", {200: AnyObject})},
    }


def _answer(used: Used, kind: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(kind, str):
        said = {"description": kind or "Nothing is to come."}
        return said | ({"content": {kind: {}}} if kind else {})
    used.setdefault(kind.__name__, (kind, "serialization"))
    content = PROBLEM if kind is Problem else "application/json"
    return {
        "description": (kind.__doc__ or "").partition("\n")[0],
        "content": {content: {"schema": _ref(kind)}},
    }


def _query(kind: type[BaseModel]) -> list[dict[str, Any]]:
    """Return a schema's fields as parameters of a query; what is not text there is read from its text."""
    fields = kind.model_json_schema()["properties"]
    lists = {"ids": {"type": "string", "description": "Ids of letters, separated by commas."}}
    return [{"name": name, "in": "query", "schema": lists.get(name, field)} for name, field in fields.items()]


def _ref(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=kind.__name__)}
