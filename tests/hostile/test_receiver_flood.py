"""Unauthenticated clients flood a real receiver. It still answers valid webhooks, and its memory stays small."""

import asyncio

import aiohttp
import pytest

from tests.hostile.attacked_receiver import attacked_receiver, flood
from tests.hostile.flood import ATTACKS, fal_signature
from tests.time_limits import FACTOR, FAST_SECONDS, WAIT_SECONDS

HONEST_WEBHOOKS = 20
MAX_MIB = 150
HEAD_SECONDS = 10


@pytest.fixture
async def receiver(rabbitmq_url, tmp_path):
    async with attacked_receiver(rabbitmq_url, tmp_path) as receiver:
        yield receiver


@pytest.mark.parametrize("kind", ATTACKS)
async def test_honest_webhooks_are_accepted_quickly_during_the_attack(receiver, kind):
    async with flood(kind, receiver):
        await receiver.send_honestly(HONEST_WEBHOOKS)
        peak = receiver.peak_mib()
    assert [status for status, _ in receiver.answers] == [202] * HONEST_WEBHOOKS
    assert max(seconds for _, seconds in receiver.answers) < FAST_SECONDS
    assert peak < MAX_MIB
    assert receiver.running


async def test_aborted_bodies_are_counted_as_such_and_fire_no_alert(receiver):
    async with flood("aborted_bodies", receiver):
        async with asyncio.timeout(WAIT_SECONDS):
            while (outcomes := await receiver.metrics())["aborted"] < 20:
                await asyncio.sleep(0.05)
    assert outcomes["error"] + outcomes["unavailable"] + outcomes["unverifiable"] == 0


async def test_fal_webhooks_are_refused_while_no_account_is_set(rabbitmq_url, tmp_path):
    async with attacked_receiver(rabbitmq_url, tmp_path, FAL_USER_IDS="") as receiver:
        headers = {name.replace("_", "-"): str(value) for name, value in fal_signature().items()}
        async with aiohttp.ClientSession() as session:
            for proof in ({}, headers):
                async with session.post(f"{receiver.url}/webhooks/fal", json={}, headers=proof) as response:
                    assert (response.status, (await response.json())["code"]) == (403, "fal_closed")


async def test_half_sent_heads_are_closed(receiver):
    writers = []
    for _ in range(500):
        _, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(b"POST /webhooks/supabase HTTP/1.1\r\nHost: receiver\r\n")
        writers.append(writer)
    async with asyncio.timeout(HEAD_SECONDS * FACTOR + WAIT_SECONDS):
        while receiver.connections() > 0:
            await asyncio.sleep(0.1)
    for writer in writers:
        writer.close()
