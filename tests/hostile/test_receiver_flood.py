"""Unauthenticated clients flood a real receiver. It still answers valid webhooks, and its memory stays small."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from tests.hostile.attacked_receiver import attacked_receiver, flood
from tests.hostile.flood import ATTACKS, fal_signature
from tests.time_limits import FACTOR, FAST_SECONDS, WAIT_SECONDS

QUIET_WEBHOOKS, HONEST_WEBHOOKS = 5, 12
QUIET_SECONDS = 0.25
"""A quiet machine answers within this time without an attack. One that needs longer is that many times slower."""
MAX_MIB = 150
HEAD_SECONDS = 10


@pytest.fixture
async def receiver(rabbitmq_url, tmp_path):
    async with attacked_receiver(rabbitmq_url, tmp_path) as receiver:
        yield receiver


@pytest.mark.parametrize("kind", ATTACKS)
async def test_honest_webhooks_are_accepted_quickly_during_the_attack(receiver, kind):
    await receiver.send_honestly(QUIET_WEBHOOKS)
    slowness = max(1, max(seconds for _, seconds in receiver.answers) / QUIET_SECONDS)
    receiver.answers.clear()
    async with flood(kind, receiver):
        await receiver.send_honestly(HONEST_WEBHOOKS)
        peak = receiver.peak_mib()
    assert [status for status, _ in receiver.answers] == [202] * HONEST_WEBHOOKS
    assert max(seconds for _, seconds in receiver.answers) < slowness * FAST_SECONDS
    assert peak < MAX_MIB
    assert receiver.running


MALFORMED = [
    b"GET /healthz HTTP/1.1\r\nHost: receiver\r\nno colon\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: receiver\r\nX: \x00\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    b"POST /webhooks/supabase HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /webhooks/supabase HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /webhooks/supabase HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /webhooks/supabase HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"CONNECT /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    b"GET /healthz HTTP/1.1\r\n" + b"a:\r\n" * 101 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


async def test_malformed_requests_write_no_traceback_and_few_lines(receiver, tmp_path):
    async def send(data):
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(data)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()

    counted, log = 0, tmp_path / "receiver.log"
    before = len(log.read_text().splitlines())
    for _ in range(20):
        await asyncio.gather(*map(send, MALFORMED))
    async with asyncio.timeout(WAIT_SECONDS):
        while counted < 20 * 6:
            await asyncio.sleep(0.05)
            lines = [json.loads(line) for line in log.read_text().splitlines()[before:]]
            counted = sum(line.get("bad_request", 0) for line in lines)
    assert [line for line in lines if "exception" in line] == []
    assert {line["event"] for line in lines} <= {"connections closed", "webhook"}
    assert sum(line["event"] == "connections closed" for line in lines) < 20


async def test_aborted_bodies_are_counted_as_such_and_fire_no_alert(receiver):
    async with flood("aborted_bodies", receiver):
        async with asyncio.timeout(WAIT_SECONDS):
            while (outcomes := await receiver.outcome_counts())["aborted"] < 20:
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
            await asyncio.sleep(0.5)
    for writer in writers:
        writer.close()
