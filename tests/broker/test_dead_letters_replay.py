"""Replay on a real broker: nothing lost, nothing taken twice, whoever else is at it and whatever dies."""

import asyncio
import json

import pytest

from schemas.dead_letters import DeadLetterFilter
from schemas.jobs import Job
from tests.broker.graves import graveyard
from tests.figures import figure
from tests.patience import SOON
from worker.broker import topology
from worker.broker.envelope import Envelope
from worker.dead_letters.service import DeadLetterService
from worker.observability.metrics import Metrics


@pytest.fixture
async def yard(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with graveyard(rabbitmq_url) as found:
        yield found


async def replay(yard, *, rate=None, abort=lambda: False, progress=lambda _done, _total: None, metrics=None, **filters):
    desk = DeadLetterService(yard.settings, "test", metrics)
    chosen = await desk.find(DeadLetterFilter.read(filters))
    async with desk.removal("replay", chosen, rate=rate, abort=abort, progress=progress) as removal:
        return await removal.run()


async def test_a_replayed_job_is_as_new_but_for_its_beginning(yard):
    job = yard.job("https://v3.fal.media/a.png")
    await yard.dead_letter(job, attempt=7, deaths=3, replays=1, traceparent="00-1-2-01")
    metrics = Metrics("test")
    outcome = await replay(yard, metrics=metrics)
    assert (outcome.matched, outcome.done, outcome.kept, outcome.aborted) == (1, 1, (), False)
    [message] = await yard.drain()
    again = Envelope.read(message)
    assert again.job == job
    assert (again.attempt, again.deaths, again.replays, again.traceparent) == (1, 0, 2, "00-1-2-01")
    assert again.first_seen.isoformat() == message.headers["x-outlast-first-seen"] == job.event_at.isoformat()
    assert {name for name in message.headers if "error" in name or "failed" in name or "stage" in name} == set()
    assert (message.routing_key, message.message_id) == ("file_processing", str(job.task_id))
    assert figure(metrics.dead_letters_replayed) == 1
    assert await yard.count() == 0


async def test_the_brokers_own_history_stays_behind(yard):
    job = yard.job("https://v3.fal.media/a.png", queue="file_processing.bulk")
    waiting = Envelope(job, attempt=2).message(code="source_unavailable", error="503")
    await yard.publish(topology.retry_name(1), job.queue, waiting)
    queue = await yard.channel.get_queue("outlast.file_processing.bulk", ensure=False)
    async with asyncio.timeout(SOON):
        while await yard.count() == 0:
            if (message := await queue.get(fail=False)) is not None:
                assert message.headers["x-death"]
                await message.nack(requeue=True)
    [letter] = await yard.letters.find(DeadLetterFilter(code="worker_killed"))
    assert letter.item.attempts == 21
    await replay(yard)
    [message] = await yard.drain("outlast.file_processing.bulk")
    foreign = {name for name in message.headers if name.startswith("x-") and "outlast" not in name}
    assert foreign <= {"x-delivery-count"}
    assert message.headers["x-outlast-attempt"] == 1
    assert await yard.count() == 0


async def test_what_cannot_be_decoded_goes_back_as_it_was(yard):
    await yard.bury_raw(b'{"from": "the future"}', "outlast.job.v9", "newer_version")
    await yard.bury_raw(b"\xff\xfe", "outlast.job.v1")
    assert (await replay(yard)).done == 2
    found = {(message.body, message.type, message.message_id) for message in await yard.drain()}
    assert found == {(b'{"from": "the future"}', "outlast.job.v9", "m"), (b"\xff\xfe", "outlast.job.v1", "m")}


async def test_only_the_chosen_are_taken_and_the_others_keep_their_order(yard):
    for n in range(200):
        await yard.dead_letter(
            yard.job(f"https://v3.fal.media/{n}.png"), "corrupted" if n % 3 else "size_exceeded", minutes=n
        )
    before = await yard.order()
    seen = []
    outcome = await replay(yard, code="size_exceeded", limit=30, progress=lambda *step: seen.append(step))
    assert (outcome.matched, outcome.done) == (30, 30)
    assert seen == [(n, 30) for n in range(1, 31)]
    taken = {Job.model_validate_json(message.body).task_id for message in await yard.drain()}
    assert len(taken) == 30
    after = await yard.order()
    assert [before.index(key) for key in after] == sorted(before.index(key) for key in after)
    assert len(after) == 170


async def test_a_job_that_fails_again_meanwhile_is_not_taken_again(yard):
    jobs = [yard.job(f"https://v3.fal.media/{n}.png") for n in range(40)]
    for job in jobs:
        await yard.dead_letter(job)

    async def fail_again(message):
        async with message.process():
            envelope = Envelope.read(message)
            await yard.dead_letter(envelope.job, replays=envelope.replays, minutes=99)

    queue = await yard.channel.get_queue("outlast.file_processing", ensure=False)
    tag = await queue.consume(fail_again)
    assert (await replay(yard, rate=200)).done == 40
    async with asyncio.timeout(SOON):
        while await yard.count() < 40:
            await asyncio.sleep(0.02)
    await queue.cancel(tag)
    assert [letter.item.replays for letter in await yard.letters.find(DeadLetterFilter())] == [1] * 40


async def test_a_crashs_duplicate_is_replayed_once_and_other_files_are_not_forgotten(yard):
    job = yard.job("https://v3.fal.media/a.png", "https://v3.fal.media/b.png")
    for minutes in (1, 2):
        await yard.dead_letter(job.only([job.files[0].source_key]), minutes=minutes)
    await yard.dead_letter(job.only([job.files[1].source_key]), minutes=3)
    outcome = await replay(yard)
    assert (outcome.matched, outcome.done) == (1, 1)
    replayed = [[file["position"] for file in json.loads(message.body)["files"]] for message in await yard.drain()]
    assert replayed == [[0], [1]]
    assert await yard.count() == 0


async def test_a_replay_can_be_slow_and_can_be_stopped(yard):
    for n in range(60):
        await yard.dead_letter(yard.job(f"https://v3.fal.media/{n}.png"))
    started, done = asyncio.get_running_loop().time(), []
    outcome = await replay(yard, rate=20, abort=lambda: len(done) >= 20, progress=lambda *step: done.append(step))
    assert asyncio.get_running_loop().time() - started >= 0.9
    assert (outcome.matched, outcome.done, outcome.aborted) == (60, 20, True)
    assert await yard.count() == 40
    assert len(await yard.drain()) == 20


async def test_a_slow_replay_lets_others_in(yard, monkeypatch):
    monkeypatch.setattr("worker.dead_letters.batch.ROUND_SECONDS", 0.5)
    for n in range(20):
        await yard.dead_letter(yard.job(f"https://v3.fal.media/{n}.png"))
    running = asyncio.create_task(replay(yard, rate=8))
    looks = []
    while not running.done():
        looks.append(len(await DeadLetterService(yard.settings, "another").find(DeadLetterFilter())))
        await asyncio.sleep(0.3)
    assert (await running).done == 20
    assert len(looks) >= 2
    assert looks == sorted(looks, reverse=True)
    assert await yard.count() == 0


async def test_without_its_queue_a_letter_stays(yard):
    await yard.dead_letter(yard.job("https://v3.fal.media/a.png"))
    await yard.dead_letter(yard.job("https://v3.fal.media/b.png", queue="optimization"))
    await yard.channel.queue_delete("outlast.optimization")
    outcome = await replay(yard)
    assert outcome.done == 1
    assert "no queue takes 'optimization'" in outcome.kept[0].reason
    assert await yard.count() == 1
