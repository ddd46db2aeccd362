"""Tracing: one trace from the webhook to the stored files, if OpenTelemetry is installed and an exporter configured.

    POST /webhooks/...  >  publish  >  process (an attempt)  >  begin, file > its steps, settle > publish

A job's messages have the header `traceparent` (W3C) of the first publication, so that all attempts, also after a
replay, belong to one trace. `x-outlast-links` names the span of the previous attempt, and becomes a span link.

Without the extra `outlast[otel]`, or without an exporter in the environment, OpenTelemetry is not imported, and `span`
only propagates the traceparent of the request or message. Names and kinds follow OpenTelemetry's semantic conventions
for messaging. Attributes contain ids, codes and numbers, never URLs.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler

    from worker.observability.spans import Attribute, Kind, Spans

log = structlog.stdlib.get_logger(__name__)
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
EXPORTERS: Final = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Traces are exported only if one of these is set; OpenTelemetry's default would send them to localhost."""
NO_ATTRIBUTES: "Final[Mapping[str, Attribute]]" = {}

_NO_SPAN: Final[AbstractContextManager[None]] = contextlib.nullcontext()
_propagated: ContextVar[str | None] = ContextVar("traceparent", default=None)
_spans: "Spans | None" = None


def span(
    name: str,
    kind: "Kind" = "internal",
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: "Mapping[str, Attribute]" = NO_ATTRIBUTES,
) -> AbstractContextManager[None]:
    """Open a span: a child of `parent`, or of the current span. An exception sets its `code` as the span's error.

    `parent` and `links` are traceparents; invalid ones are ignored.
    """
    if _spans is not None:
        return _spans.span(name, kind, parent, links, attributes)
    return _NO_SPAN if parent is None else _propagate(parent)


def is_active(parent: str | None) -> bool:
    """Whether a span with this parent would be recorded or propagated."""
    return _spans is not None or parent is not None


def publish_span(exchange: str, routing_key: str, message_id: object) -> AbstractContextManager[None]:
    """Open the span of a published message."""
    if _spans is None:
        return _NO_SPAN
    attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send",
        "messaging.destination.name": exchange,
        "messaging.rabbitmq.destination.routing_key": routing_key,
        "messaging.message.id": str(message_id),
    }
    return span(f"publish {exchange}", "producer", attributes=attributes)


def set_attributes(attributes: "Mapping[str, Attribute]") -> None:
    """Set attributes of the current span; `error` (a code) marks it as failed. Names without a dot get `outlast.`."""
    if _spans is not None:
        _spans.set_attributes(attributes)


def current_traceparent() -> str | None:
    """Return the traceparent of the current span, or the one that is only propagated."""
    return _propagated.get() if _spans is None else _spans.current_traceparent()


def current_links() -> tuple[str, ...]:
    """Return the links with which a later span refers to the current span; empty if no span is recorded."""
    traceparent = None if _spans is None else _spans.current_traceparent()
    return () if traceparent is None else (traceparent,)


def log_context() -> dict[str, str]:
    """Return the fields to add to log lines: the id of the trace, if there is one."""
    traceparent = current_traceparent()
    return {} if traceparent is None else {"trace_id": traceparent[3:35]}


@contextlib.contextmanager
def configured(service: str) -> Iterator[None]:
    """Export traces during the context if the environment configures an exporter; flush them at its end.

    OTEL_SDK_DISABLED, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_EXPORTER (otlp, console, none),
    OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER and OTEL_BSP_* have OpenTelemetry's meaning.
    """
    processor = _configured_processor() if _is_enabled() else None
    if processor is None:
        yield
        return
    with export_to(service, processor):
        yield


@contextlib.contextmanager
def export_to(service: str, *processors: "SpanProcessor", sampler: "Sampler | None" = None) -> Iterator[None]:
    """Send traces to these processors during the context."""
    from worker.observability.spans import Spans  # noqa: PLC0415 - loads OpenTelemetry, which is optional

    global _spans
    previous, _spans = _spans, Spans(service, processors, sampler)
    try:
        yield
    finally:
        closing, _spans = _spans, previous
        closing.close()


def _is_enabled() -> bool:
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    none = os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not disabled and not none and any(os.environ.get(name) for name in EXPORTERS)


def _configured_processor() -> "SpanProcessor | None":
    try:
        from worker.observability.spans import span_processor  # noqa: PLC0415 - loads OpenTelemetry, which is optional

        return span_processor(os.environ.get("OTEL_TRACES_EXPORTER", "otlp"))
    except ModuleNotFoundError as error:
        log.warning("traces are not exported, a module is missing: install outlast[otel]", module=error.name)
    return None


@contextlib.contextmanager
def _propagate(traceparent: str) -> Iterator[None]:
    token = _propagated.set(traceparent if TRACEPARENT.fullmatch(traceparent) else None)
    try:
        yield
    finally:
        _propagated.reset(token)
