"""The OTEL_* variables, with a collector that receives OTLP over HTTP."""

import http.server
import subprocess
import sys
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.slow

CHILD = """
from worker.observability import tracing

with tracing.configured("outlast-worker"), tracing.span("process", "consumer", links=("nonsense",)):
    with tracing.span("download", attributes={"position": 3}):
        pass
"""


@pytest.fixture
def collector():
    """A collector's URL, and the requests it has received."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def run(monkeypatch, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)  # noqa: S603 - our own


def test_spans_are_exported_with_service_name_and_resource_attributes(collector, monkeypatch):
    url, received = collector
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    assert run(monkeypatch, **environment).returncode == 0
    ((path, request),) = received
    (found,) = request.resource_spans
    resource = {attribute.key: attribute.value.string_value for attribute in found.resource.attributes}
    assert path == "/v1/traces"
    assert resource["service.name"] == "outlast-worker"
    assert resource["deployment.environment.name"] == "test"
    inner, outer = found.scope_spans[0].spans
    assert (inner.name, outer.name, inner.parent_span_id) == ("download", "process", outer.span_id)
    assert inner.attributes[0].key == "outlast.position"


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_TRACES_SAMPLER", "always_off"), ("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")],
)
def test_tracing_can_be_disabled_by_the_environment(collector, monkeypatch, name, value):
    url, received = collector
    completed = run(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url, **{name: value})
    assert (completed.returncode, completed.stderr, received) == (0, "", [])


def test_an_unknown_exporter_is_refused_by_name(monkeypatch):
    assert "OTEL_TRACES_EXPORTER: is 'zipkin'" in run(monkeypatch, OTEL_TRACES_EXPORTER="zipkin").stderr
