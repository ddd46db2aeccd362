"""One trace from the webhook through every attempt to the stored file, read from an in-memory exporter."""

import json
from uuid import uuid4

import aiohttp
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind
from pydantic import SecretStr

from handlers.sources.supabase import SupabaseSource
from schemas.dead_letters import DeadLetterFilter
from tests.captured_logs import capture_log
from worker.dead_letters.service import DeadLetterService
from worker.observability import tracing
from worker.runtime import serve
from worker.web.receiver import Receiver

SECRET = "a-shared-secret-of-the-test"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INCOMING = f"00-{TRACE}-{CALLER}-01"
STEPS = ["deduplicate", "detect", "download", "prepare", "upload"]


class Trace:
    def __init__(self, spans):
        self.spans = spans

    def span_named(self, name, **attributes):
        wanted = {f"outlast.{key}": value for key, value in attributes.items()}.items()
        found = [span for span in self.spans if span.name == name and wanted <= span.attributes.items()]
        assert len(found) == 1, (name, attributes, [span.name for span in self.spans])
        return found[0]

    def child_names(self, parent):
        """Return the sorted names of a span's children."""
        mine = [span for span in self.spans if span.parent and span.parent.span_id == parent.context.span_id]
        return sorted(span.name for span in mine)

    def child(self, parent, name):
        mine = [s for s in self.spans if s.name == name and s.parent and s.parent.span_id == parent.context.span_id]
        assert len(mine) == 1, (name, self.child_names(parent))
        return mine[0]


def links(span):
    return [link.context.span_id for link in span.links]


@pytest.fixture
def exporter():
    exporter = InMemorySpanExporter()
    with tracing.export_to("outlast-test", SimpleSpanProcessor(exporter)):
        yield exporter


async def send_webhook(worker_env, url, headers=None):
    """Send the webhook of a completed generation with one file; return the generation's id."""
    generation = str(uuid4())
    await worker_env.sql.execute(
        "insert into generations (id, user_id, status, output) values ($1, $2, 'completed', $3)",
        generation,
        str(uuid4()),
        json.dumps({"url": url}),
    )
    row = {"id": generation, "status": "completed", "user_id": "u", "output": {"url": url}}
    event = {"type": "UPDATE", "table": "generations", "schema": "public", "record": row, "old_record": None}
    app = Receiver(
        worker_env.settings,
        [SupabaseSource(worker_env.settings, (SecretStr(SECRET),))],
        worker_env.broker,
        worker_env.metrics,
    )
    async with (
        serve(app.app(), "127.0.0.1", 0) as addresses,
        aiohttp.ClientSession(headers={"x-webhook-secret": SECRET} | (headers or {})) as session,
        session.post(f"http://{addresses[0]}/webhooks/supabase", json=event) as response,
    ):
        assert response.status == 202
    return generation


@pytest.mark.settings(max_attempts=2, retry_delays=(1,))
async def test_retried_and_replayed_job_is_one_trace(worker_env, source, exporter):
    with capture_log(worker_env.settings) as log:
        await send_webhook(
            worker_env, f"{source.url}/files/photo.png?fail_first=2&at={uuid4()}", {"traceparent": INCOMING}
        )
        await worker_env.wait_for_outcome("failed")
        service = DeadLetterService(worker_env.settings, "test")
        async with service.batch("replay", await service.find(DeadLetterFilter())) as batch:
            assert (await batch.run()).done == 1
        await worker_env.wait_for_outcome("completed")
    trace = Trace(exporter.get_finished_spans())
    assert {f"{span.context.trace_id:032x}" for span in trace.spans} == {TRACE}

    received = trace.span_named("POST /webhooks/supabase")
    assert (f"{received.parent.span_id:016x}", received.kind) == (CALLER, SpanKind.SERVER)
    assert received.attributes["http.response.status_code"] == 202
    published = trace.child(received, "publish outlast")
    assert published.kind is SpanKind.PRODUCER
    assert trace.child_names(received) == ["publish outlast"]

    first = trace.span_named("process file_processing", outcome="retried")
    second = trace.span_named("process file_processing", outcome="failed")
    third = trace.span_named("process file_processing", outcome="completed")
    replayed = trace.span_named("replay")
    assert {span.kind for span in (first, second, third)} == {SpanKind.CONSUMER}
    assert [span.attributes["outlast.attempt"] for span in (first, second, third)] == [1, 2, 1]
    parents = [span.parent.span_id for span in (first, second, replayed, third)]
    assert parents == [published.context.span_id] * 3 + [replayed.context.span_id]
    assert links(first) == []
    assert links(second) == [first.context.span_id]
    assert links(replayed) == links(third) == [second.context.span_id]

    for failed, put in ((first, "publish outlast.retry.1"), (second, "publish outlast.dead")):
        assert failed.status.description in {"retried", "failed"}
        assert trace.child_names(failed) == ["begin", "file", "settle"]
        assert trace.child_names(trace.child(failed, "settle")) == [put]
        step = trace.child(trace.child(failed, "file"), "download")
        assert step.attributes["error.type"] == step.status.description == "source_unavailable"
        assert trace.child_names(trace.child(failed, "file")) == ["download"]
    assert third.status.is_unset
    assert trace.child_names(third) == ["begin", "file", "settle"]
    assert trace.child_names(trace.child(third, "file")) == STEPS
    assert len(trace.spans) == 6 + 2 * 5 + 8

    lines = [line for line in log.read("attempt ended") if line["queue"] == "file_processing"]
    assert [line["outcome"] for line in lines] == ["retried", "failed", "completed"]
    assert {line["trace_id"] for line in (*lines, *log.read("file failed"), *log.read("webhook"))} == {TRACE}
    text = " ".join(span.to_json() for span in trace.spans)
    assert "fail_first" not in text
    assert "://" not in text


async def test_webhook_without_a_valid_traceparent_starts_a_trace(worker_env, source, exporter):
    await send_webhook(worker_env, f"{source.url}/files/tone.wav", {"traceparent": "00-nonsense-01"})
    await worker_env.wait_for_outcome("completed")
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans if span.parent is None] == ["POST /webhooks/supabase"]
    assert len({span.context.trace_id for span in spans}) == 1


async def test_callers_sampling_decision_is_kept(worker_env, source):
    exporter = InMemorySpanExporter()
    with tracing.export_to("outlast-test", SimpleSpanProcessor(exporter), sampler=ParentBased(ALWAYS_OFF)):
        await send_webhook(worker_env, f"{source.url}/files/tone.wav", {"traceparent": INCOMING[:-1] + "0"})
        await worker_env.wait_for_outcome("completed")
        assert exporter.get_finished_spans() == ()
        await send_webhook(worker_env, f"{source.url}/files/tone.mp3", {"traceparent": INCOMING})
        await worker_env.wait_for_outcome("completed", 2)
    assert {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()} == {TRACE}
    assert len(exporter.get_finished_spans()) == 11


async def test_without_tracing_the_callers_trace_id_is_logged(worker_env, source):
    with capture_log(worker_env.settings) as log:
        await send_webhook(
            worker_env, f"{source.url}/files/tone.wav?fail_first=1&at={uuid4()}", {"traceparent": INCOMING}
        )
        await worker_env.wait_for_outcome("completed")
    lines = [line for line in log.read("attempt ended") if line["queue"] == "file_processing"]
    assert [(line["outcome"], line["trace_id"]) for line in lines] == [("retried", TRACE), ("completed", TRACE)]
