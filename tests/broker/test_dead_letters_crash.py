"""Replays that meet, die, or lose the broker: nothing is lost, and next to nothing is sent twice."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from schemas.dead_letters import DeadLetterFilter
from tests.broker.graves import graveyard
from tests.patience import LONG
from worker.broker.connection import BrokerUnavailableError
from worker.broker.nodes import connect
from worker.dead_letters.service import DeadLetterService


@pytest.fixture
async def yard(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with graveyard(rabbitmq_url) as found:
        yield found


PROGRAM = """
import asyncio, sys
from pydantic import SecretStr
from schemas.dead_letters import Choice
from worker.dead_letters.service import Desk
from worker.settings import Settings

async def main():
    desk = Desk(Settings.load(rabbitmq_url=SecretStr(sys.argv[1])), "child")
    chosen = await desk.find(Choice())
    print("found", flush=True)
    async with desk.removal("replay", chosen, progress=lambda done, total: print(done, flush=True)) as removal:
        outcome = await removal.run()
    print("end", outcome.done, flush=True)

asyncio.run(main())
"""


async def operator(yard):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, yard.url),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def fill(yard, count):
    jobs = [yard.job(f"https://v3.fal.media/{n}.png") for n in range(count)]
    for at in range(0, count, 100):
        await asyncio.gather(*(yard.dead_letter(job) for job in jobs[at : at + 100]))
    return {str(job.task_id) for job in jobs}


async def test_two_operators_at_once_lose_nothing(yard):
    tasks = await fill(yard, 300)
    both = [await operator(yard) for _ in range(2)]
    said = [(await asyncio.wait_for(process.communicate(), LONG))[0].decode().split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(words[-1]) for words in said) == 300
    assert sorted(message.message_id for message in await yard.drain()) == sorted(tasks)
    assert await yard.count() == 0


async def test_killed_twice_nothing_is_lost(yard):
    tasks = await fill(yard, 1000)
    for _ in range(2):
        process = await operator(yard)
        async with asyncio.timeout(LONG):
            while (await process.stdout.readline()).strip() != b"200":
                pass
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    process = await operator(yard)
    out, _ = await asyncio.wait_for(process.communicate(), LONG)
    assert process.returncode == 0
    assert 580 <= int(out.split()[-1]) <= 600
    assert await yard.count() == 0
    found = [message.message_id for message in await yard.drain()]
    assert set(found) == tasks
    assert len(found) <= 1002


async def test_a_broker_lost_in_the_middle_is_said_and_loses_nothing(yard, monkeypatch):
    tasks, connections, done, closing = await fill(yard, 100), [], [], []

    async def noted(*arguments):
        connections.append(await connect(*arguments))
        return connections[-1]

    def cut(*step):
        done.append(step)
        if len(done) == 30:
            closing.append(asyncio.ensure_future(connections[-1].close()))

    monkeypatch.setattr("worker.dead_letters.queue_lock.connect", noted)
    desk = DeadLetterService(yard.settings, "test")
    chosen = await desk.find(DeadLetterFilter())
    async with desk.removal("replay", chosen, progress=cut) as removal:
        with pytest.raises(BrokerUnavailableError):
            await removal.run()
        assert removal.outcome().done >= 30
    left = {str(letter.item.task_id) for letter in await desk.find(DeadLetterFilter())}
    assert left | {message.message_id for message in await yard.drain()} == tasks
