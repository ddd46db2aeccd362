"""One trace from the webhook to the stored files, where OpenTelemetry is installed and told where to send it.

    POST /webhooks/...  >  publish  >  process (an attempt)  >  begin, file > its steps, finish, publish

A job's messages carry the W3C `traceparent` of its first publication, so that every attempt, also after a replay, is of
one trace; `x-outlast-links` names the attempt that put the message there, and becomes a span link.

Without the extra `outlast[otel]`, or without an exporter in the environment, nothing of OpenTelemetry is imported, and
`span` only passes on the traceparent that came with the request or the message. Names and kinds follow OpenTelemetry's
semantic conventions for messaging; attributes hold ids, codes and numbers, never a URL.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import structlog

from worker.observability.span_types import Attribute, Kind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler

    from worker.observability.spans import Spans

log = structlog.stdlib.get_logger(__name__)
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
EXPORTERS: Final = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Any of these asks for traces; OpenTelemetry's own default would send them to localhost unasked."""
NONE: Final[Mapping[str, Attribute]] = {}

_NOTHING: Final[AbstractContextManager[None]] = contextlib.nullcontext()
_passing: ContextVar[str | None] = ContextVar("traceparent", default=None)
_spans: "Spans | None" = None


def span(
    name: str,
    kind: Kind = "internal",
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Mapping[str, Attribute] = NONE,
) -> AbstractContextManager[None]:
    """Open a span, a child of `parent` or else of the one around it; an exception marks it with its `code`.

    `parent` and `links` are traceparents; whatever is none counts as missing.
    """
    if _spans is not None:
        return _spans.span(name, kind, parent, links, attributes)
    return _NOTHING if parent is None else _pass_on(parent)


def is_active(parent: str | None) -> bool:
    """Whether a span with this parent would leave any trace."""
    return _spans is not None or parent is not None


def publish_span(exchange: str, routing_key: str, message_id: object) -> AbstractContextManager[None]:
    """Open the span of a message that is published."""
    if _spans is None:
        return _NOTHING
    attributes: dict[str, Attribute] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send",
        "messaging.destination.name": exchange,
        "messaging.rabbitmq.destination.routing_key": routing_key,
        "messaging.message.id": str(message_id),
    }
    return span(f"publish {exchange}", "producer", attributes=attributes)


def set_attributes(attributes: Mapping[str, Attribute]) -> None:
    """Add attributes to the span around; `error` (a code) marks it as failed. Names without a dot get `outlast.`."""
    if _spans is not None:
        _spans.note(attributes)


def current_traceparent() -> str | None:
    """Return the traceparent of the span around, or the one that is only passed on."""
    return _passing.get() if _spans is None else _spans.here()


def current_links() -> tuple[str, ...]:
    """Return what a later span links to in order to point at the span around: nothing when none is recorded."""
    found = None if _spans is None else _spans.here()
    return () if found is None else (found,)


def log_context() -> dict[str, str]:
    """Return what log lines are to be bound to: the trace's id, if there is one."""
    found = current_traceparent()
    return {} if found is None else {"trace_id": found[3:35]}


@contextlib.contextmanager
def configured(service: str) -> Iterator[None]:
    """Trace for as long as the context lasts, as far as the environment asks for it; what is left is sent at its end.

    OTEL_SDK_DISABLED, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_EXPORTER (otlp, console, none),
    OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER and OTEL_BSP_* mean what OpenTelemetry says.
    """
    span_processor = _exporter() if _asked() else None
    if span_processor is None:
        yield
        return
    with export_to(service, span_processor):
        yield


@contextlib.contextmanager
def export_to(service: str, *processors: "SpanProcessor", sampler: "Sampler | None" = None) -> Iterator[None]:
    """Trace to these for as long as the context lasts."""
    from worker.observability.spans import Spans  # noqa: PLC0415 - the same

    global _spans
    before, _spans = _spans, Spans(service, processors, sampler)
    try:
        yield
    finally:
        mine, _spans = _spans, before
        mine.close()


def _asked() -> bool:
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    none = os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not disabled and not none and any(os.environ.get(name) for name in EXPORTERS)


def _exporter() -> "SpanProcessor | None":
    try:
        from worker.observability.spans import span_processor  # noqa: PLC0415 - only where it is asked for: OpenTelemetry is an extra

        return span_processor(os.environ.get("OTEL_TRACES_EXPORTER", "otlp"))
    except ModuleNotFoundError as error:
        log.warning("OTEL_* asks for traces, but a module is missing: install outlast[otel]", module=error.name)
    return None


@contextlib.contextmanager
def _pass_on(traceparent: str) -> Iterator[None]:
    token = _passing.set(traceparent if TRACEPARENT.fullmatch(traceparent) else None)
    try:
        yield
    finally:
        _passing.reset(token)
