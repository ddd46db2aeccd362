"""The receiver: verifies webhooks, publishes their jobs and answers. `Receiver._webhook` is where a webhook enters.

A webhook waits for no database, because a webhook made in Supabase Studio times out after one second and pg_net never
retries. The order is fixed: check the headers, read the body, verify the raw bytes, parse, plan the jobs, publish them,
wait for the broker's confirms.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, Final

import structlog
from aiohttp import web

from handlers.database.client import Supabase
from handlers.sources import WebhookSource
from handlers.sources.errors import ClosedError, RejectedError, UnreadableError, VerifierUnavailableError
from handlers.sources.fal import FalSource
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import Job, Queue
from worker.broker import topology
from worker.broker.batch_publisher import publish_jobs
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.console.app import mount
from worker.dead_letters.routes import DeadLetterRoutes
from worker.forward.message import ForwardedWebhook
from worker.observability.metrics import Metrics
from worker.settings import Settings
from worker.tasks.routes import TaskRoutes
from worker.web.event_planner import EventPlanner
from worker.web.health import Check, add_health
from worker.web.openapi import add_openapi
from worker.web.problem_details import problem, problem_middleware
from worker.web.request_body import READER, BodyError, BodyReader
from worker.web.tracing_middleware import tracing_middleware
from worker.web.user_share import UserShare, WaitingJobs

log = structlog.stdlib.get_logger(__name__)
MIN_PUBLISH_SECONDS: Final = 0.7
"""Shortest time limit for publishing all jobs of one event: a webhook made in Studio waits one second by default."""
MAX_PUBLISH_SECONDS: Final = 10.0
FAL_PUBLISH_SECONDS: Final = 6.0
"""Time limit for publishing the jobs, and then again for the webhook that is passed on. FAL waits 15 seconds."""
MAX_STATED_MS: Final = 60_000
"""Maximum of a sender's timeout. A larger number changes nothing, and may be too large for a float."""
USABLE_TIMEOUT: Final = 0.8
"""The part of the timeout that a sender states in which the response must be sent. The rest is for the network."""
MAX_LOGGED_TASKS: Final = 10
"""How many task ids of one event are logged."""
JSON: Final = "application/json"
LOG_FIELDS: Final = web.RequestKey("log_fields", dict[str, Any])
"""Additional fields of the webhook's log line."""
ARRIVED: Final = web.RequestKey("arrived", float)
"""When the headers arrived, by `time.perf_counter`."""
STARTED: Final = web.RequestKey("started", float)
"""When the work began, by `time.perf_counter`: after the body has arrived."""


class Receiver:
    """Serves `POST /webhooks/<source>` for each source, and all other routes of a receiver."""

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[WebhookSource],
        broker: Broker,
        metrics: Metrics,
        supabase: Supabase | None = None,
    ) -> None:
        self._settings = settings
        self._supabase = supabase
        self._sources = {source.name: source for source in sources}
        self._broker = broker
        self._metrics = metrics
        self._planner = EventPlanner(settings)
        self._user_share = UserShare(settings.waiting_files_per_user, WaitingJobs(broker))
        self._count, self._time = cache(metrics.webhooks.labels), cache(metrics.webhook_duration.labels)

    def app(self, checks: dict[str, Check] | None = None) -> web.Application:
        """Return the application to serve. `checks` are those of `/readyz`; by default the broker's."""
        size = int(self._settings.webhook_max_body_mb * 1024 * 1024)
        app = web.Application(middlewares=[tracing_middleware, problem_middleware])
        app[READER] = BodyReader(size)
        app.cleanup_ctx.append(self._keep_sources_ready)
        for name in self._sources:
            app.router.add_post(f"/webhooks/{name}", self._webhook)
        DeadLetterRoutes(self._settings, self._metrics).add_to(app)
        TaskRoutes(self._settings, self._supabase, self._broker).add_to(app)
        mount(app, self._settings, self._supabase, self._broker, self._metrics)
        add_openapi(app)
        checks = checks or {"broker": self._broker.problem}
        add_health(app, self._metrics, checks, self._settings.metrics_token)
        return app

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        """Answer one webhook; write one log line and two metrics."""
        source = self._sources[request.path.rpartition("/")[2]]
        request[ARRIVED] = request[STARTED] = time.perf_counter()
        outcome = "error"
        try:
            outcome, response = await self._receive(source, request)
        except BodyError as error:
            outcome = error.outcome
            raise
        except web.HTTPRequestEntityTooLarge:
            outcome = "too_large"
            raise
        finally:
            seconds = time.perf_counter() - request[STARTED]
            self._count(source.name, outcome).inc()
            self._time(source.name).observe(seconds)
            log.info(
                "webhook",
                source=source.name,
                outcome=outcome,
                milliseconds=round(seconds * 1000, 1),
                **request.get(LOG_FIELDS, {}),
            )
        return response

    async def _receive(self, source: WebhookSource, request: web.Request) -> tuple[str, web.Response]:
        """Check the headers, and read the body only if they could be right. Return the outcome and the response."""
        if request.headers.get("Content-Type") != JSON and request.content_type != JSON:
            return "unsupported", _unsupported(request.content_type)
        try:
            proven = source.check_headers(request.headers)
        except ClosedError as error:
            hint = "set FAL_USER_IDS of the receiver to the FAL accounts that may send"
            return "closed", problem(403, f"{source.name}_closed", str(error), hint)
        except RejectedError as error:
            return self._reject(source, error)
        async with request.app[READER].open(request, proven=proven) as body:
            request[STARTED] = time.perf_counter()
            outcome, response = await self._accept(source, request, body)
            if outcome in {"accepted", "ignored"} and source.name == FalSource.name:
                return await self._queue_for_forwarding(request, body, outcome, response)
            return outcome, response

    async def _queue_for_forwarding(
        self, request: web.Request, body: bytes, outcome: str, response: web.Response
    ) -> tuple[str, web.Response]:
        """Queue FAL's webhook for the application if FORWARD_WEBHOOKS is set; return outcome and response."""
        if self._settings.forward_webhooks is None:
            return outcome, response
        forwarded = ForwardedWebhook.received(body, request.rel_url.raw_query_string, request.headers)
        try:
            await self._broker.publish(topology.WORK, Queue.WEBHOOKS, forwarded.message(), FAL_PUBLISH_SECONDS)
        except BrokerUnavailableError as error:
            return "unavailable", _unavailable("broker_unavailable", str(error), 5)
        return outcome, response

    async def _accept(self, source: WebhookSource, request: web.Request, body: bytes) -> tuple[str, web.Response]:
        """Verify, parse, plan and publish. Return the outcome, a label of the metrics, and the response."""
        try:
            await source.verify(request.headers, body)
            event, jobs = await self._planner.plan(source, body, source.named_generation(request.query))
        except RejectedError as error:
            return self._reject(source, error)
        except VerifierUnavailableError as error:
            return "unverifiable", _unavailable("verifier_unavailable", str(error), 30)
        except UnreadableError as error:
            return "unreadable", problem(422, "unreadable", str(error), "nothing was enqueued; correct the sender")
        if isinstance(event, IgnoredWebhook):
            return await self._ignore(source, event, jobs)
        task_ids = [str(job.task_id) for job in jobs]
        fields = {
            "binding": event.binding,
            "generation_id": event.generation_id,
            "jobs": len(jobs),
            "task_ids": task_ids[:MAX_LOGGED_TASKS],
        }
        request[LOG_FIELDS] = fields
        try:
            return await self._enqueue(jobs, task_ids, _publish_limit(request, event))
        except BrokerUnavailableError as error:
            fields["reason"] = str(error)
            return "unavailable", _unavailable("broker_unavailable", str(error), 5)

    async def _ignore(
        self, source: WebhookSource, event: IgnoredWebhook, jobs: Sequence[Job]
    ) -> tuple[str, web.Response]:
        """Answer an ignored event. Publish its job, if it has one: the job records FAL's result on the row."""
        log.info("event ignored", source=source.name, **event.model_dump(exclude_none=True))
        try:
            await publish_jobs(self._broker, jobs, FAL_PUBLISH_SECONDS)
        except BrokerUnavailableError as error:
            return "unavailable", _unavailable("broker_unavailable", str(error), 5)
        return "ignored", web.json_response({"ignored": event.reason})

    def _reject(self, source: WebhookSource, error: RejectedError) -> tuple[str, web.Response]:
        self._metrics.signature_rejected.labels(source.name).inc()
        hint = "check the secret, the signature and the sender's clock"
        return "rejected", problem(401, "not_authenticated", str(error), hint)

    async def _keep_sources_ready(self, _app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(source.keep_ready()) for source in self._sources.values()]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _enqueue(self, jobs: Sequence[Job], task_ids: Sequence[str], limit: float) -> tuple[str, web.Response]:
        await publish_jobs(self._broker, await self._user_share.route(jobs), limit)
        if all(job.is_result_only for job in jobs):
            return "ignored", web.json_response({"ignored": "no_files"})
        return "accepted", web.json_response({"task_ids": task_ids}, status=202)


def _publish_limit(request: web.Request, event: CompletedGeneration) -> float:
    """Return for how many seconds publishing may take, so that the sender still waits for the response."""
    if event.sender_timeout_ms is None:
        return FAL_PUBLISH_SECONDS if event.source == FalSource.name else MIN_PUBLISH_SECONDS
    elapsed = time.perf_counter() - request[ARRIVED]
    remaining = min(event.sender_timeout_ms, MAX_STATED_MS) / 1000 * USABLE_TIMEOUT - elapsed
    return min(max(remaining, MIN_PUBLISH_SECONDS), MAX_PUBLISH_SECONDS)


def _unsupported(content_type: str) -> web.Response:
    return problem(415, "unsupported_type", f"Content-Type is {content_type}", "send Content-Type: application/json")


def _unavailable(code: str, detail: str, seconds: int) -> web.Response:
    return problem(503, code, detail, "send the webhook again later", {"Retry-After": str(seconds)})
