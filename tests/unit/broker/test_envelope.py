from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4

import pytest

from schemas.jobs import JOB_TYPE, MAX_JOB_BYTES, Job, JobFile
from worker.broker.envelope import Envelope, UndecodableError


def job(**more):
    fields = {
        "task_id": uuid4(),
        "generation_id": "g",
        "source": "supabase",
        "files": (JobFile(position=0, url="https://fal.media/a.png", source_key="a"),),
        "total_files": 1,
        "output_key": "o",
        "event_at": datetime.now(UTC),
    }
    return Job(**fields | more)


def delivered(message, **more):
    """A message as the broker delivers it: what was published, and what the broker adds."""
    fields = {"body": message.body, "type": message.type, "headers": dict(message.headers)}
    return SimpleNamespace(**fields | more)


def test_attempt_replays_and_trace_survive_a_message():
    sent = Envelope(job(), attempt=3, replays=2, traceparent="00-aa-bb-01")
    read = Envelope.read(delivered(sent.message(code="source_gone", error="404")))
    assert read == sent


def test_the_message_is_persistent_typed_and_has_its_error():
    envelope = Envelope(job())
    message = envelope.message(code="corrupted", error="x" * 5000)
    assert message.delivery_mode == 2
    assert (message.content_type, message.type) == ("application/json", "outlast.job.v1")
    assert message.message_id == str(envelope.job.task_id)
    assert message.headers["x-outlast-error-code"] == "corrupted"
    assert len(message.headers["x-outlast-error"]) == 1000


def test_x_death_is_not_copied_to_the_next_message():
    sent = Envelope(job()).message()
    read = Envelope.read(delivered(sent, headers={**sent.headers, "x-death": [{"count": 7}]}))
    assert "x-death" not in read.next_attempt(read.job).message().headers
    assert read.attempt == 1


def test_only_counted_attempts_increase_the_attempt_number():
    envelope = Envelope(job(), attempt=2)
    assert envelope.next_attempt(envelope.job).attempt == 3
    assert envelope.next_attempt(envelope.job, counted=False).attempt == 2


@pytest.mark.parametrize(
    ("body", "kind", "code", "reason"),
    [
        (b"{", JOB_TYPE, "undecodable", "body"),
        (b'{"task_id": 1}', JOB_TYPE, "undecodable", "task_id"),
        (b"{}", "outlast.job.v9", "newer_version", "outlast.job.v9"),
    ],
)
def test_an_unreadable_message_raises_its_code_and_reason(body, kind, code, reason):
    with pytest.raises(UndecodableError, match=reason) as refused:
        Envelope.read(SimpleNamespace(body=body, type=kind, headers={}))
    assert refused.value.code == code


def test_deaths_add_up_over_messages_and_are_reset_by_a_new_attempt():
    sent = Envelope(job(), deaths=2).message()
    read = Envelope.read(delivered(sent, headers={**sent.headers, "x-delivery-count": 3}))
    assert read.deaths == 5
    assert read.next_attempt(read.job, counted=False).deaths == 5
    assert read.message().headers["x-outlast-deaths"] == 5
    assert read.next_attempt(read.job).deaths == 0


def test_invalid_headers_are_ignored():
    sent = Envelope(job()).message()
    read = Envelope.read(delivered(sent, headers={"x-outlast-attempt": "many", "x-outlast-first-seen": "yesterday"}))
    assert read.attempt == 1
    assert read.first_seen == read.job.event_at


def test_a_job_too_large_for_a_message_is_refused():
    files = (JobFile(position=0, url="data:," + "x" * MAX_JOB_BYTES, source_key="a"),)
    with pytest.raises(ValueError, match="at most"):
        Envelope(job(files=files)).message()
