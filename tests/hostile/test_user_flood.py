"""A user's flood of webhooks does not delay another user's file: USER_SHARE."""

import asyncio
import base64
import struct
import time
import zlib
from uuid import uuid4

import aiohttp
import pytest

from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.time_limits import LONG_WAIT_SECONDS

FLOOD = 400
SENDERS = 20
pytestmark = pytest.mark.usefixtures("broker_of_stacks")


def picture(number):
    """Return a small PNG as a data URI; every number has another picture."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    side = 16
    rows = b"".join(b"\0" + bytes((number >> shift) & 255 for shift in (0, 8, 16)) * side for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def generation(user, numbers):
    output = {"images": [{"url": picture(number)} for number in numbers]}
    return {"id": str(uuid4()), "user_id": user, "status": "completed", "output": output, "request_id": None}


async def send_until_accepted(project, row):
    """Send a webhook, again after a 503: on a busy machine the broker may confirm too late."""
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            try:
                return await project.send_webhook(row)
            except aiohttp.ClientResponseError as error:
                if error.status != 503:
                    raise
            await asyncio.sleep(0.2)


async def send_flood(project, user, events, files_per_event=1):
    """Send this many completed generations of one user, several at once."""
    rows = (
        generation(user, range(number * files_per_event, (number + 1) * files_per_event)) for number in range(events)
    )

    async def send():
        for row in rows:
            await send_until_accepted(project, row)

    await asyncio.gather(*(send() for _ in range(SENDERS)))


async def store_one(project, user, number):
    """Send one generation with one file; return the seconds until it is stored."""
    row = generation(user, [number])
    began = time.monotonic()
    await send_until_accepted(project, row)
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not await project.select("outlast_tasks", f"generation_id=eq.{row['id']}&status=eq.completed"):
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def count_stored(project, user):
    return len(await project.select("outlast_files", f"user_id=eq.{user}&select=id"))


@pytest.fixture
async def stack(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKER_CONCURRENCY", "8")
    async with Stack(tmp_path, workers=1) as running:
        yield running


async def test_a_flood_of_one_user_waits_behind_itself(stack):
    flooder, honest = str(uuid4()), str(uuid4())
    async with Project(stack.endpoints) as project:
        unattacked = await store_one(project, honest, FLOOD)
        await send_flood(project, flooder, FLOOD)
        waited = await store_one(project, honest, FLOOD + 1)
        stored = await count_stored(project, flooder)
        print(f"unattacked {unattacked:.2f} s, behind {FLOOD} files {waited:.2f} s; {stored} of them were stored first")  # noqa: T201
        assert stored < FLOOD / 2
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            while await count_stored(project, flooder) < FLOOD:
                await asyncio.sleep(0.2)
