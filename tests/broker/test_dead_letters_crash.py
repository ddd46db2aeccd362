"""Replays that run concurrently, are killed or lose the broker: no message is lost and almost none is sent twice."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from schemas.dead_letters import DeadLetterFilter
from tests.broker.dead_letter_vhost import dead_letter_vhost
from tests.time_limits import LONG_WAIT_SECONDS
from worker.broker.errors import BrokerUnavailableError
from worker.broker.nodes import connect
from worker.dead_letters.service import DeadLetterService


@pytest.fixture
async def vhost(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as found:
        yield found


PROGRAM = """
import asyncio, os, signal, sys
from pydantic import SecretStr
from schemas.dead_letters import DeadLetterFilter
from worker.dead_letters.service import DeadLetterService
from worker.settings import Settings

def progress(done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    service = DeadLetterService(Settings.load(rabbitmq_url=SecretStr(sys.argv[1])), "child")
    chosen = await service.find(DeadLetterFilter())
    async with service.batch("replay", chosen, progress=progress) as batch:
        outcome = await batch.run()
    print(outcome.done)

asyncio.run(main())
"""


async def start_operator(vhost, killed_at=0):
    """Start a replay of everything. It kills itself when `killed_at` dead letters are replayed."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, vhost.url, str(killed_at)),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def fill(vhost, count):
    jobs = [vhost.job(f"https://v3.fal.media/{n}.png") for n in range(count)]
    for at in range(0, count, 100):
        await asyncio.gather(*(vhost.dead_letter(job) for job in jobs[at : at + 100]))
    return {str(job.task_id) for job in jobs}


async def test_two_concurrent_replays_send_each_message_once(vhost):
    tasks = await fill(vhost, 300)
    both = [await start_operator(vhost) for _ in range(2)]
    output = [(await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS))[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(map(int, output)) == 300
    assert sorted(message.message_id for message in await vhost.drain()) == sorted(tasks)
    assert await vhost.count() == 0


async def test_replay_killed_twice_loses_nothing(vhost):
    tasks = await fill(vhost, 1000)
    for _ in range(2):
        process = await start_operator(vhost, killed_at=200)
        assert await asyncio.wait_for(process.wait(), LONG_WAIT_SECONDS) == -signal.SIGKILL
    process = await start_operator(vhost)
    out, _ = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert process.returncode == 0
    assert 580 <= int(out) <= 600
    assert await vhost.count() == 0
    found = [message.message_id for message in await vhost.drain()]
    assert set(found) == tasks
    assert len(found) <= 1002


async def test_broker_connection_lost_during_a_replay_raises_and_loses_nothing(vhost, monkeypatch):
    tasks, connections, done, closing = await fill(vhost, 100), [], [], []

    async def recording_connect(*arguments):
        connections.append(await connect(*arguments))
        return connections[-1]

    def cut(*step):
        done.append(step)
        if len(done) == 30:
            closing.append(asyncio.ensure_future(connections[-1].close()))

    monkeypatch.setattr("worker.dead_letters.queue_lock.connect", recording_connect)
    service = DeadLetterService(vhost.settings, "test")
    chosen = await service.find(DeadLetterFilter())
    async with service.batch("replay", chosen, progress=cut) as batch:
        with pytest.raises(BrokerUnavailableError):
            await batch.run()
        assert batch.outcome().done >= 30
    left = {str(letter.item.task_id) for letter in await service.find(DeadLetterFilter())}
    assert left | {message.message_id for message in await vhost.drain()} == tasks
