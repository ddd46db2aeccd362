"""Replay on a real broker: no message is lost or replayed twice, also during concurrent work."""

import asyncio
import json

import pytest

from schemas.dead_letters import DeadLetterFilter
from schemas.jobs import Job
from tests.broker.dead_letter_vhost import DeadLetterVhost, dead_letter_vhost
from tests.metric_values import metric_value
from tests.time_limits import WAIT_SECONDS
from worker.broker import topology
from worker.broker.envelope import Envelope
from worker.dead_letters.service import DeadLetterService
from worker.observability.metrics import Metrics


@pytest.fixture
async def vhost(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as found:
        yield found


async def replay(
    vhost, *, rate=None, should_abort=lambda: False, progress=lambda _done, _total: None, metrics=None, **filters
):
    service = DeadLetterService(vhost.settings, "test", metrics)
    chosen = await service.find(DeadLetterFilter.parse(filters))
    async with service.batch("replay", chosen, rate=rate, should_abort=should_abort, progress=progress) as batch:
        return await batch.run()


async def test_replayed_job_starts_again_and_keeps_its_first_seen_time(vhost):
    job = vhost.job("https://v3.fal.media/a.png")
    await vhost.dead_letter(job, attempt=7, deaths=3, replays=1, traceparent="00-1-2-01")
    metrics = Metrics("test")
    outcome = await replay(vhost, metrics=metrics)
    assert (outcome.matched, outcome.done, outcome.kept, outcome.aborted) == (1, 1, (), False)
    [message] = await vhost.drain()
    again = Envelope.read(message)
    assert again.job == job
    assert (again.attempt, again.deaths, again.replays, again.traceparent) == (1, 0, 2, "00-1-2-01")
    assert again.first_seen.isoformat() == message.headers["x-outlast-first-seen"] == job.event_at.isoformat()
    assert {name for name in message.headers if "error" in name or "failed" in name or "stage" in name} == set()
    assert (message.routing_key, message.message_id) == ("file_processing", str(job.task_id))
    assert metric_value(metrics.dead_letters_replayed) == 1
    assert await vhost.count() == 0


async def test_replay_drops_the_brokers_own_headers(vhost):
    job = vhost.job("https://v3.fal.media/a.png", queue="file_processing.bulk")
    waiting = Envelope(job, attempt=2).message(code="source_unavailable", error="503")
    await vhost.publish(topology.retry_name(1), job.queue, waiting)
    queue = await vhost.channel.get_queue("outlast.file_processing.bulk", ensure=False)
    async with asyncio.timeout(WAIT_SECONDS):
        while await vhost.count() == 0:
            if (message := await queue.get(fail=False)) is not None:
                assert message.headers["x-death"]
                await message.nack(requeue=True)
    [letter] = await vhost.dead_letters.find(DeadLetterFilter(code="worker_killed"))
    assert letter.item.attempts == 21
    await replay(vhost)
    [message] = await vhost.drain("outlast.file_processing.bulk")
    others = {name for name in message.headers if name.startswith("x-") and "outlast" not in name}
    assert others <= {"x-delivery-count"}
    assert message.headers["x-outlast-attempt"] == 1
    assert await vhost.count() == 0


async def test_undecodable_message_is_replayed_unchanged(vhost):
    await vhost.dead_letter_raw(b'{"from": "the future"}', "outlast.job.v9", "newer_version")
    await vhost.dead_letter_raw(b"\xff\xfe", "outlast.job.v1")
    assert (await replay(vhost)).done == 2
    found = {(message.body, message.type, message.message_id) for message in await vhost.drain()}
    assert found == {(b'{"from": "the future"}', "outlast.job.v9", "m"), (b"\xff\xfe", "outlast.job.v1", "m")}


async def test_only_selected_messages_are_removed_and_the_others_keep_their_order(vhost):
    for n in range(200):
        await vhost.dead_letter(
            vhost.job(f"https://v3.fal.media/{n}.png"), "corrupted" if n % 3 else "size_exceeded", minutes=n
        )
    before = await vhost.order()
    progress_calls = []
    outcome = await replay(vhost, code="size_exceeded", limit=30, progress=lambda *step: progress_calls.append(step))
    assert (outcome.matched, outcome.done) == (30, 30)
    assert progress_calls == [(n, 30) for n in range(1, 31)]
    taken = {Job.model_validate_json(message.body).task_id for message in await vhost.drain()}
    assert len(taken) == 30
    after = await vhost.order()
    assert [before.index(key) for key in after] == sorted(before.index(key) for key in after)
    assert len(after) == 170


async def test_job_that_fails_again_during_a_replay_is_replayed_once(vhost):
    jobs = [vhost.job(f"https://v3.fal.media/{n}.png") for n in range(40)]
    for job in jobs:
        await vhost.dead_letter(job)

    async def fail_again(message):
        async with message.process():
            envelope = Envelope.read(message)
            await vhost.dead_letter(envelope.job, replays=envelope.replays, minutes=99)

    queue = await vhost.channel.get_queue("outlast.file_processing", ensure=False)
    tag = await queue.consume(fail_again)
    assert (await replay(vhost, rate=200)).done == 40
    async with asyncio.timeout(WAIT_SECONDS):
        while await vhost.count() < 40:
            await asyncio.sleep(0.02)
    await queue.cancel(tag)
    assert [letter.item.replays for letter in await vhost.dead_letters.find(DeadLetterFilter())] == [1] * 40


async def test_duplicate_message_is_replayed_once_and_other_files_of_the_task_too(vhost):
    job = vhost.job("https://v3.fal.media/a.png", "https://v3.fal.media/b.png")
    for minutes in (1, 2):
        await vhost.dead_letter(job.limited_to([job.files[0].source_key]), minutes=minutes)
    await vhost.dead_letter(job.limited_to([job.files[1].source_key]), minutes=3)
    outcome = await replay(vhost)
    assert (outcome.matched, outcome.done) == (1, 1)
    replayed = [[file["position"] for file in json.loads(message.body)["files"]] for message in await vhost.drain()]
    assert replayed == [[0], [1]]
    assert await vhost.count() == 0


async def test_replay_respects_rate_and_abort(vhost):
    for n in range(60):
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png"))
    started, done = asyncio.get_running_loop().time(), []
    outcome = await replay(
        vhost, rate=20, should_abort=lambda: len(done) >= 20, progress=lambda *step: done.append(step)
    )
    assert asyncio.get_running_loop().time() - started >= 0.9
    assert (outcome.matched, outcome.done, outcome.aborted) == (60, 20, True)
    assert await vhost.count() == 40
    assert len(await vhost.drain()) == 20


async def test_slow_replay_releases_the_lock_between_batches(vhost, monkeypatch):
    monkeypatch.setattr("worker.dead_letters.batch.ROUND_SECONDS", 0.5)
    for n in range(20):
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png"))
    running = asyncio.create_task(replay(vhost, rate=8))
    counts = []
    while not running.done():
        counts.append(len(await DeadLetterService(vhost.settings, "another").find(DeadLetterFilter())))
        await asyncio.sleep(0.3)
    assert (await running).done == 20
    assert len(counts) >= 2
    assert counts == sorted(counts, reverse=True)
    assert await vhost.count() == 0


async def test_message_without_its_queue_is_kept(vhost):
    await vhost.dead_letter(vhost.job("https://v3.fal.media/a.png"))
    await vhost.dead_letter(vhost.job("https://v3.fal.media/b.png", queue="optimization"))
    await vhost.channel.queue_delete("outlast.optimization")
    outcome = await replay(vhost)
    assert outcome.done == 1
    assert "no queue is bound to 'optimization'" in outcome.kept[0].reason
    assert await vhost.count() == 1


async def test_a_replay_of_the_command_line_is_in_the_history_with_what_became_of_it(worker_env, source):
    vhost = DeadLetterVhost(
        worker_env.settings.rabbitmq_url.get_secret_value(), worker_env.settings, worker_env.channel
    )
    for url in (f"{source.url}/files/tone.wav", "https://elsewhere.example/a.png"):
        await vhost.dead_letter(worker_env.job(url), "corrupted")
    command = await worker_env.start_command("dead", "replay", "--yes", "--wait", "--code", "corrupted")
    out, _ = await command.communicate()
    assert out.decode() == "2 replayed: 1 stored again, 1 failed again (source_forbidden 1), 0 waiting\n"
    (row,) = json.loads(await worker_env.sql.fetchval("select outlast_operations()"))
    assert (row["verb"], row["state"], row["done"], row["target"]) == ("replay", "done", 2, {"code": "corrupted"})
    assert row["results"] == {"stored": 1, "cancelled": 0, "waiting": 0, "failed": {"source_forbidden": 1}}


async def test_a_dead_letter_that_was_kept_is_not_waited_for(worker_env, source):
    vhost = DeadLetterVhost(
        worker_env.settings.rabbitmq_url.get_secret_value(), worker_env.settings, worker_env.channel
    )
    await vhost.dead_letter(worker_env.job(f"{source.url}/files/tone.wav"))
    await vhost.dead_letter(worker_env.job(f"{source.url}/gone.png"), "source_gone")
    for result in ("1 replayed, 1 kept: 1 stored again, 0 failed again, 0 waiting", "0 replayed, 1 kept"):
        command = await worker_env.start_command("dead", "replay", "--yes", "--wait")
        async with asyncio.timeout(WAIT_SECONDS):
            out, _ = await command.communicate()
        assert out.decode().splitlines()[-1] == result
