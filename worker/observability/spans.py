"""Spans by OpenTelemetry's SDK. Imported only where traces are asked for; `tracing.py` is what the others know."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handlers.settings import SettingsError
from worker.observability.span_types import Attribute, Kind

KINDS: Final[Mapping[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
CLOSE_SECONDS: Final = 3.0
W3C: Final = TraceContextTextMapPropagator()


class Spans:
    """A tracer of our own; the process's global one is left to whoever embeds us."""

    def __init__(self, service: str, processors: Sequence[SpanProcessor], sampler: Sampler | None = None) -> None:
        named = Resource({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(sampler, Resource.create().merge(named), shutdown_on_exit=False)
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("outlast", version("outlast"))

    @contextlib.contextmanager
    def span(
        self, name: str, kind: Kind, parent: str | None, links: Sequence[str], attributes: Mapping[str, Attribute]
    ) -> Iterator[None]:
        """Open a span; see `tracing.span`. Messages of exceptions stay out of it: they quote what others said."""
        with self._tracer.start_as_current_span(
            name,
            None if parent is None else _read(parent),
            KINDS[kind],
            {_named(attribute): value for attribute, value in attributes.items()},
            [Link(get_current_span(_read(link)).get_span_context()) for link in links],
            record_exception=False,
            set_status_on_exception=False,
        ):
            try:
                yield
            except Exception as error:
                self.note({"error": getattr(error, "code", type(error).__name__)})
                raise

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes to the current span."""
        current = get_current_span()
        for name, value in attributes.items():
            if name == "error":
                current.set_status(StatusCode.ERROR, str(value))
                current.set_attribute("error.type", value)
            else:
                current.set_attribute(_named(name), value)

    def here(self) -> str | None:
        """Return the current span's traceparent."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        """Send what is left, as far as the collector takes it within CLOSE_SECONDS: it must not hold up an end."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def span_processor(name: str) -> SpanProcessor:
    """Return the exporter of this name, as OTEL_TRACES_EXPORTER has it; raise SettingsError when we have none such."""
    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter())
    if name != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER: is {name!r}. Remedy: otlp, console or none.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - loads protobuf
        OTLPSpanExporter,
    )

    return BatchSpanProcessor(OTLPSpanExporter())


def _named(attribute: str) -> str:
    """Give what no convention names a name of our own."""
    return attribute if "." in attribute else f"outlast.{attribute}"


def _read(traceparent: str) -> Context:
    return W3C.extract({"traceparent": traceparent}, Context())
