"""Summaries of dead letters, filters and batch requests, without a broker."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import uuid4

import pytest

from schemas.dead_letters import BatchRequest, DeadLetter, DeadLetterFilter, InvalidFilterError
from worker.dead_letters.summary import DeadLetterSummary, group_items, merge_items, redact_urls, summarize

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def message(body=b"no job", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(body=body, type="outlast.job.v1", headers=named, routing_key="file_processing")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://a.b/c.png?X-Goog-Signature=1&x=2 answered 404", "https://a.b/c.png answered 404"),
        ("'https://u:p@a.b:8/c?d' and (http://e.f/#g)", "'https://a.b:8/c' and (http://e.f/"),
        ("what is this? nothing", "what is this? nothing"),
        ("amqp://guest:secret@host/vhost", "amqp://host/vhost"),
    ],
)
def test_urls_are_shown_without_query_and_user(text, redacted):
    assert redact_urls(text) == redacted


@pytest.mark.parametrize("headers", [{}, {"x_death": []}, {"x_death": "odd"}, {"x_outlast_attempt": "many"}])
def test_missing_or_invalid_headers_give_unknown(headers):
    item = summarize(message(**headers)).item
    assert (item.code, item.error, item.failed_at, item.attempts, item.replays) == ("unknown", None, None, None, 0)


def test_the_brokers_reason_takes_precedence_over_the_workers_error():
    death = {"reason": "delivery_limit", "time": NOON.replace(tzinfo=None), "queue": "outlast.file_processing"}
    item = summarize(message(x_death=[death, {"reason": "expired"}], x_outlast_error_code="source_unavailable")).item
    assert (item.code, item.failed_at) == ("worker_killed", NOON)


def test_an_undecodable_message_is_identified_by_its_body():
    assert summarize(message(b"a")).item.id == summarize(message(b"a", x_outlast_replays=3)).item.id
    assert summarize(message(b"a")).item.id != summarize(message(b"b")).item.id


def test_messages_of_one_item_are_merged_and_grouped():
    name = uuid4()
    summaries = [
        DeadLetterSummary(DeadLetter(id=name, code="c", error="old", replays=2), frozenset("a")),
        DeadLetterSummary(DeadLetter(id=name, code="c", error="new", failed_at=NOON, attempts=1), frozenset("b")),
        DeadLetterSummary(DeadLetter(id=uuid4(), code="c"), frozenset()),
    ]
    unknown, item = merge_items(summaries)
    assert unknown.failed_at is None
    assert (item.error, item.replays, item.attempts) == ("new", 2, 1)
    [group] = group_items([unknown, item])
    assert (group.count, group.first_seen, group.last_seen) == (2, NOON, NOON)
    assert group_items([]) == []


@pytest.mark.parametrize(
    ("text", "time"),
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
def test_times_are_iso_8601_in_utc_by_default(text, time):
    assert DeadLetterFilter.parse({"since": text}).since == time


def test_an_item_without_a_time_matches_no_time_filter():
    item = DeadLetter(id=uuid4(), code="c")
    assert DeadLetterFilter().matches(item)
    assert not DeadLetterFilter(since=NOON).matches(item)


@pytest.mark.parametrize(("given", "rate"), [("5/s", 5), (" 0.5 ", 0.5), (7, 7)])
def test_a_rate_is_a_number_per_second(given, rate):
    assert BatchRequest.parse({"rate": given}).rate == rate


@pytest.mark.parametrize(
    "values", [{"rate": "inf"}, {"rate": "5/min"}, {"rate": True, "x": 1}, {"since": 2026}, {"ids": ""}, {"limit": 0}]
)
def test_an_invalid_value_is_refused_by_the_name_of_its_field(values):
    with pytest.raises(InvalidFilterError, match=rf"{next(reversed(values))}: "):
        BatchRequest.parse(values)
