"""What is made of a dead letter's headers and body, and of filters, without a broker."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from handlers.errors import SourceGoneError
from handlers.sources.fal_queue import FalQueueClient
from schemas.dead_letters import BatchRequest, DeadLetter, DeadLetterFilter, InvalidFilterError
from worker.dead_letters.summary import DeadLetterSummary, group_items, summarize, redact_urls, merge_items

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def message(body=b"no job", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(body=body, type="outlast.job.v1", headers=named, routing_key="file_processing")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("https://a.b/c.png?X-Goog-Signature=1&x=2 answered 404", "https://a.b/c.png answered 404"),
        ("'https://u:p@a.b:8/c?d' and (http://e.f/#g)", "'https://a.b:8/c' and (http://e.f/"),
        ("what is this? nothing", "what is this? nothing"),
        ("amqp://guest:secret@host/vhost", "amqp://host/vhost"),
    ],
)
def test_no_query_is_shown(said, told):
    assert redact_urls(said) == told


@pytest.mark.parametrize("headers", [{}, {"x_death": []}, {"x_death": "odd"}, {"x_outlast_attempt": "many"}])
def test_headers_may_be_anything(headers):
    item = summarize(message(**headers)).item
    assert (item.code, item.error, item.failed_at, item.attempts, item.replays) == ("unknown", None, None, None, 0)


def test_the_brokers_reason_counts_before_an_older_one_of_ours():
    death = {"reason": "delivery_limit", "time": NOON.replace(tzinfo=None), "queue": "outlast.file_processing"}
    item = summarize(message(x_death=[death, {"reason": "expired"}], x_outlast_error_code="source_unavailable")).item
    assert (item.code, item.failed_at) == ("worker_killed", NOON)


def test_an_undecodable_letter_is_known_by_its_bytes():
    assert summarize(message(b"a")).item.id == summarize(message(b"a", x_outlast_replays=3)).item.id
    assert summarize(message(b"a")).item.id != summarize(message(b"b")).item.id


def test_letters_of_one_item_unite_also_where_little_is_known():
    name = uuid4()
    letters = [
        DeadLetterSummary(DeadLetter(id=name, code="c", error="old", replays=2), frozenset("a")),
        DeadLetterSummary(DeadLetter(id=name, code="c", error="new", failed_at=NOON, attempts=1), frozenset("b")),
        DeadLetterSummary(DeadLetter(id=uuid4(), code="c"), frozenset()),
    ]
    unknown, item = merge_items(letters)
    assert unknown.failed_at is None
    assert (item.error, item.replays, item.attempts) == ("new", 2, 1)
    [group] = group_items([unknown, item])
    assert (group.count, group.first_seen, group.last_seen) == (2, NOON, NOON)
    assert group_items([]) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-01", NOON.replace(hour=0)),
        ("2026-11-01T12:00:00", NOON),
        ("2026-11-01T12:00:00Z", NOON),
        ("2026-11-01T13:00:00+01:00", NOON),
        ("2026-11-01T13:00:00 01:00", NOON),
        ("20261101T12", NOON),
        (NOON.astimezone(timezone(timedelta(hours=5))), NOON),
    ],
)
def test_moments_are_iso_8601(text, meant):
    assert DeadLetterFilter.read({"since": text}).since == meant


def test_a_letter_without_a_time_is_in_no_span():
    letter = DeadLetter(id=uuid4(), code="c")
    assert DeadLetterFilter().takes(letter)
    assert not DeadLetterFilter(since=NOON).takes(letter)


@pytest.mark.parametrize(("given", "rate"), [("5/s", 5), (" 0.5 ", 0.5), (7, 7)])
def test_rates(given, rate):
    assert BatchRequest.read({"rate": given}).rate == rate


@pytest.mark.parametrize(
    "values", [{"rate": "inf"}, {"rate": "5/min"}, {"rate": True, "x": 1}, {"since": 2026}, {"ids": ""}, {"limit": 0}]
)
def test_what_cannot_be_read_is_named(values):
    with pytest.raises(InvalidFilterError, match=rf"{next(reversed(values))}: "):
        BatchRequest.read(values)


@pytest.mark.parametrize(
    ("model", "address"),
    [
        ("fal-ai/flux/dev", "https://queue.fal.run/fal-ai/flux/requests/a%2F..%2Fb"),
        ("/fal-ai/flux/", "https://queue.fal.run/fal-ai/flux/requests/a%2F..%2Fb"),
        ("https://queue.fal.run/x/y/requests/1", "https://queue.fal.run/x/y/requests/1"),
    ],
)
def test_where_fal_is_asked(model, address):
    assert str(FalQueueClient("https://queue.fal.run", SecretStr("k"))._address(model, "a/../b")) == address


@pytest.mark.parametrize(
    "model",
    [
        *("flux", "", "a/..", "../a", "a b/c", "https://queue.fal.run.evil.com/x", "http://queue.fal.run/x"),
        *("https://queue.fal.run:444/x", "https://evil.com/https://queue.fal.run/x", "https://queue.fal.run@evil.com/"),
        *("https://[", "ftp://queue.fal.run/x"),
    ],
)
def test_nobody_else_is_asked(model):
    with pytest.raises(SourceGoneError):
        FalQueueClient("https://queue.fal.run", SecretStr("k"))._address(model, "r")
