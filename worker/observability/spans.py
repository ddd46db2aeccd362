"""Spans with the OpenTelemetry SDK. Only `tracing.py` imports this module, and only if traces are exported."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final, Literal

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handlers.settings import SettingsError

Kind = Literal["internal", "server", "producer", "consumer"]
Attribute = str | int | float | bool
KINDS: Final[Mapping[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
CLOSE_SECONDS: Final = 3.0
W3C: Final = TraceContextTextMapPropagator()


class Spans:
    """A separate tracer. The process's global tracer is not changed, because the program may use it itself."""

    def __init__(self, service: str, processors: Sequence[SpanProcessor], sampler: Sampler | None = None) -> None:
        resource = Resource({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(sampler, Resource.create().merge(resource), shutdown_on_exit=False)
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("outlast", version("outlast"))

    @contextlib.contextmanager
    def span(
        self, name: str, kind: Kind, parent: str | None, links: Sequence[str], attributes: Mapping[str, Attribute]
    ) -> Iterator[None]:
        """Open a span; see `tracing.span`. Messages of exceptions are not recorded: they may quote untrusted input."""
        with self._tracer.start_as_current_span(
            name,
            None if parent is None else _context(parent),
            KINDS[kind],
            {_attribute_name(attribute): value for attribute, value in attributes.items()},
            [Link(get_current_span(_context(link)).get_span_context()) for link in links],
            record_exception=False,
            set_status_on_exception=False,
        ):
            try:
                yield
            except Exception as error:
                self.set_attributes({"error": getattr(error, "code", type(error).__name__)})
                raise

    def set_attributes(self, attributes: Mapping[str, Attribute]) -> None:
        """Set attributes of the current span; `error` also sets its status."""
        current = get_current_span()
        for name, value in attributes.items():
            if name == "error":
                current.set_status(StatusCode.ERROR, str(value))
                current.set_attribute("error.type", value)
            else:
                current.set_attribute(_attribute_name(name), value)

    def current_traceparent(self) -> str | None:
        """Return the current span's traceparent."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        """Export the remaining spans. Takes at most CLOSE_SECONDS, so that a slow collector does not delay shutdown."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def span_processor(name: str) -> SpanProcessor:
    """Return the processor for a value of OTEL_TRACES_EXPORTER. Raises SettingsError for an unknown value."""
    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter())
    if name != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER: is {name!r}. Remedy: otlp, console or none.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - loads protobuf
        OTLPSpanExporter,
    )

    return BatchSpanProcessor(OTLPSpanExporter())


def _attribute_name(attribute: str) -> str:
    """Add the prefix `outlast.` to names that no semantic convention defines: those without a dot."""
    return attribute if "." in attribute else f"outlast.{attribute}"


def _context(traceparent: str) -> Context:
    return W3C.extract({"traceparent": traceparent}, Context())
