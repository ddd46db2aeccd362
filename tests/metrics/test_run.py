"""Load and every fault with a real Prometheus: rules, alerts, dashboards, and consistent counts."""

import re
import time

import pytest

from tests.grafana.dashboards import annotations, dashboards, queries
from tests.metrics.conftest import scrape_series
from tests.metrics.fault_scenario import ALLOWED_ALERTS, EXPECTED_ALERTS, UNDECODABLE_MESSAGES
from tests.metrics.monitored_stack import CONCURRENCY
from tests.time_limits import WAIT_SECONDS
from worker.observability.metric_labels import SETTLED_OUTCOMES

FILES = 'queue=~"file_processing.*"'
OURS = "|".join(outcome for outcome in SETTLED_OUTCOMES if outcome != "undecodable")
"""The outcomes with which jobs published by Outlast leave the queues; undecodable messages come from elsewhere."""
IN = f"sum(max_over_time(outlast_jobs_published_total{{{FILES}}}[1h]))"
REPLAYED = "sum(max_over_time(outlast_dead_letters_replayed_total[1h]))"
OUT = f'sum(max_over_time(outlast_jobs_total{{{FILES}, outcome=~"{OURS}"}}[1h]))'
IN_FLIGHT = "outlast:jobs_in_flight:sum"
LOST_AT_KILLS = 3 * CONCURRENCY
"""The most jobs whose count can be lost: in progress when the worker was killed and when the broker was stopped."""
QUERIES = [query for dashboard in dashboards().values() for query in (*queries(dashboard), *annotations(dashboard))]


async def test_all_targets_are_scraped(run):
    found = [(one["labels"]["job"], one["health"], one["lastError"]) for one in await run.prometheus.targets()]
    jobs = ["outlast-receiver", "outlast-worker", "outlast-worker", "rabbitmq"]
    assert sorted(found) == [(job, "up", "") for job in jobs]


async def test_every_rule_is_evaluated_and_every_metric_in_it_exists(run):
    rules = await run.prometheus.rules()
    assert len(rules) == 32
    names = {found["metric"]["__name__"] for found in await run.prometheus.query('{__name__=~".+"}')}
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
        await run.prometheus.query(rule["query"])
        used = set(re.findall(r"\b(?:up|(?:outlast|rabbitmq)[\w:]*)\b", re.sub(r'"[^"]*"', "", rule["query"])))
        assert used, rule["query"]
        assert used <= names, rule["name"]


async def test_every_recording_rule_has_a_value(run):
    for rule in await run.prometheus.rules():
        if rule["type"] == "recording":
            await run.prometheus.wait_for(f"{rule['name']} >= 0")
            assert await run.prometheus.query(rule["name"])


async def test_exactly_the_expected_alerts_fired(run):
    assert await run.fired() - ALLOWED_ALERTS == set().union(*EXPECTED_ALERTS.values())


async def test_every_dashboard_query_returns_data(run):
    empty, unnamed = [], []
    for query in QUERIES:
        series = await run.prometheus.query_range(query.concrete("5s"), run.start, time.time())
        empty += [] if series else [f"{query.dashboard}: {query.title}"]
        unnamed += [query.title for one in series if query.labels - set(one["metric"])]
    assert (empty, unnamed) == ([], [])


@pytest.mark.parametrize(
    "query",
    [
        'outlast_circuit_open{dependency="storage"}',
        'outlast_storage_requests_total{outcome="unavailable"}',
        'outlast_webhooks_total{outcome="unavailable"}',
        "outlast:unreconciled_generations:latest",
        "outlast:oldest_unreconciled_seconds:latest",
        "outlast_deduplicated_files_total",
        "outlast_bytes_saved_total",
        "outlast_dead_letters_replayed_total",
    ],
)
async def test_every_fault_is_visible_in_its_metric(run, query):
    assert await run.prometheus.query_range(f"{query} > 0", run.start, time.time())


async def test_work_and_faults_add_no_series(run):
    for url, before in run.series_at_start.items():
        assert await scrape_series(url) == before


async def test_jobs_in_equal_jobs_out_plus_in_flight_despite_kills(run):
    assert await run.prometheus.value(IN) >= 10 * LOST_AT_KILLS
    await run.prometheus.wait_for(f"abs({IN} + {REPLAYED} - {OUT} - {IN_FLIGHT}) <= {LOST_AT_KILLS}", WAIT_SECONDS)


async def test_undecodable_messages_are_counted_and_killed_codecs_are_not_killed_workers(run):
    async def largest(metric):
        return await run.prometheus.value(f"sum(max_over_time({metric}[1h]))")

    assert await largest('outlast_jobs_total{outcome="undecodable"}') == UNDECODABLE_MESSAGES
    assert await largest('outlast_dead_letters_total{code="undecodable"}') == UNDECODABLE_MESSAGES
    assert await largest('outlast_errors_total{code="decoder_crashed"}') > 0
    assert await largest('outlast_dead_letters_total{code="worker_killed"}') == 0
