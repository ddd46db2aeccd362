"""A real Prometheus watches a real receiver, worker and broker, and evaluates every rule there is."""

import asyncio
import re

import aiohttp
import pytest

from tests.metrics.test_cardinality import series_of
from worker.metric_labels import GONE

FILES = 'queue=~"file_processing.*"'
LEFT = f'outcome=~"{"|".join(GONE)}"'
IN = f"sum(max_over_time(outlast_jobs_published_total{{{FILES}}}[1h]))"
OUT = f"sum(max_over_time(outlast_jobs_total{{{FILES}, {LEFT}}}[1h]))"
IN_FLIGHT = "outlast:jobs_in_flight:sum"
IN_WORK = 2
"""WORKER_CONCURRENCY."""


async def shown(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return series_of(await response.text())


@pytest.fixture(scope="module")
async def busy(watched):
    """The same after good, bad and forbidden files, strangers' webhooks, and what each process showed before."""
    stack, source = watched.stack, watched.stack.source
    urls = [f"{stack.receiver_url}/metrics", *stack.endpoints.worker_metrics_urls]
    watched.before = {url: await shown(url) for url in urls}
    await watched.prometheus.until("outlast:dead_letters:sum == 0")
    await watched.complete(
        *[source.output([sample.name]) for sample in stack.samples],
        *[source.output(["photo.png"]) for _ in range(30)],
        *[{"images": [{"url": f"{source.url}/missing/{n}.png"}]} for n in range(2)],
        {"images": [{"url": "https://elsewhere.example/a.png", "content_type": "image/png"}]},
    )
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer wrong"}) as session:
        for _ in range(9):
            async with session.post(f"{stack.receiver_url}/webhooks/supabase", json={}) as response:
                assert response.status == 401
    await watched.prometheus.until(f"outlast:dead_letters:sum == 3 and {IN_FLIGHT} == 0", 60)
    return watched


async def test_all_targets_are_scraped(busy):
    found = {
        target["labels"]["job"]: (target["health"], target["lastError"]) for target in await busy.prometheus.targets()
    }
    assert found == dict.fromkeys(("outlast-receiver", "outlast-worker", "rabbitmq"), ("up", ""))


async def test_every_rule_is_evaluated_and_every_metric_in_it_exists(busy):
    rules = await busy.prometheus.rules()
    assert len(rules) == 32
    names = {found["metric"]["__name__"] for found in await busy.prometheus.query('{__name__=~".+"}')}
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
        await busy.prometheus.query(rule["query"])
        used = set(re.findall(r"\b(?:up|(?:outlast|rabbitmq)[\w:]*)\b", re.sub(r'"[^"]*"', "", rule["query"])))
        assert used, rule["query"]
        assert used <= names, rule["name"]


async def test_every_recording_rule_has_a_value(busy):
    for rule in await busy.prometheus.rules():
        if rule["type"] == "recording":
            await busy.prometheus.until(f"{rule['name']} >= 0")


async def test_what_went_wrong_is_what_alerts_speak_of(busy):
    async def speaking():
        rules = [rule for rule in await busy.prometheus.rules() if rule["type"] == "alerting"]
        return {rule["name"] for rule in rules if rule["state"] != "inactive"}

    expected = {"OutlastSignaturesRejected", "OutlastDeadLettersGrow"}
    slow_machine = {"OutlastWebhooksSlow"}
    async with asyncio.timeout(60):
        while await speaking() - slow_machine != expected:
            await asyncio.sleep(0.2)


async def test_real_work_adds_no_series(busy):
    for url, before in busy.before.items():
        assert await shown(url) == before


async def test_jobs_in_are_jobs_out_and_in_flight_though_a_worker_is_killed(busy):
    source, before = busy.stack.source, await busy.prometheus.value(OUT)
    slow = [{"audio": source.file_url("tone.wav", slow=30_000, n=n)} for n in range(6)]
    await busy.complete(*slow)
    await busy.prometheus.until(f"{OUT} >= {before + 2}")
    await busy.stack.workers.pop().stop(0)
    await busy.stack.start_worker()
    await busy.follow()
    await busy.complete(*[source.output(["photo.png"]) for _ in range(4)])
    # What was in work at the kill stays in flight until its lease has run out.
    await busy.prometheus.until(f"{IN_FLIGHT} <= {IN_WORK} and {IN} >= {before + 10}", 60)
    account = f"abs({IN} - {OUT} - {IN_FLIGHT})"
    await busy.prometheus.until(f"{account} <= {IN_WORK}")
    assert await busy.prometheus.value(OUT) >= before + 6
