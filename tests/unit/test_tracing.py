"""What the environment says of traces, against a collector that speaks OTLP over HTTP."""

import http.server
import subprocess
import sys
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.slow

CHILD = """
from worker.observability import tracing

with tracing.running("outlast-worker"), tracing.span("process", "consumer", links=("nonsense",)):
    with tracing.span("download", attributes={"position": 3}):
        pass
"""


@pytest.fixture
def collector():
    """A collector's address, and what it has received."""
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


def test_spans_reach_the_collector_named_as_the_environment_says(collector, monkeypatch):
    url, received = collector
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    assert run(monkeypatch, **environment).returncode == 0
    ((path, request),) = received
    (found,) = request.resource_spans
    resource = {one.key: one.value.string_value for one in found.resource.attributes}
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
def test_the_environment_can_say_no(collector, monkeypatch, name, value):
    url, received = collector
    ran = run(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url, **{name: value})
    assert (ran.returncode, ran.stderr, received) == (0, "", [])


def test_an_exporter_that_is_not_known_is_refused_by_name(monkeypatch):
    assert "OTEL_TRACES_EXPORTER: is 'zipkin'" in run(monkeypatch, OTEL_TRACES_EXPORTER="zipkin").stderr
