"""While one user writes hostile rows, the webhooks of another user are answered and their files stored as before."""

import asyncio
import io
import json
import time
from datetime import UTC, datetime
from http import HTTPStatus
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
from standardwebhooks.webhooks import Webhook

from deploy.local.stack import Stack
from tests.hostile.attacked_receiver import peak_mib, reset_peak
from tests.time_limits import FAST_SECONDS, LONG_WAIT_SECONDS

PERIOD_SECONDS = 0.1
QUIET_WEBHOOKS, WEBHOOKS = 10, 25
MAX_RECEIVER_MIB = 150
USUAL_SECONDS = 0.5
"""A file is stored within this time on a quiet machine. One that needs longer is that many times slower."""
DELAY_SECONDS = 5 * FAST_SECONDS
"""How much later than usual a file may be stored on a quiet machine."""
ENTRIES = 100_000
SMALL_BYTES = 15_000
pytestmark = pytest.mark.usefixtures("broker_of_stacks")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory):
    async with Stack(tmp_path_factory.mktemp("hostile-rows"), workers=1) as running:
        yield running


@pytest.fixture
async def client(stack):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONG_WAIT_SECONDS)) as session:
        yield Client(stack, session)


class Client:
    """Sends signed webhooks, as the trigger does for a row of a user."""

    def __init__(self, stack, session):
        self.source_url = stack.source.url
        self._stack, self._session = stack, session

    async def send(self, output, user=None):
        """Send a webhook for a new row; return (generation id, status, seconds until the answer, time of sending)."""
        row = {"id": str(uuid4()), "user_id": user or str(uuid4()), "status": "completed", "output": output}
        body, headers = await asyncio.to_thread(self._signed, row)
        url = f"{self._stack.receiver_url}/webhooks/supabase"
        began, now = time.monotonic(), datetime.now(UTC)
        async with self._session.post(url, data=io.BytesIO(body), headers=headers) as response:
            await response.read()
            return row["id"], response.status, time.monotonic() - began, now

    async def send_until_accepted(self, output):
        """Send again after a 503: on a busy machine the broker may confirm too late."""
        longest = 0.0
        while True:
            name, status, seconds, now = await self.send(output)
            longest = max(longest, seconds)
            if status == HTTPStatus.ACCEPTED:
                return name, status, longest, now
            assert status == HTTPStatus.SERVICE_UNAVAILABLE

    def _signed(self, row):
        """Return body and headers. Takes long for a large row, so that a thread does it."""
        event = {"type": "UPDATE", "table": "generations", "schema": "public", "record": row, "old_record": None}
        body, now, name = json.dumps(event, ensure_ascii=False), datetime.now(UTC), f"msg_{uuid4()}"
        signature = Webhook(self._stack.endpoints.webhook_secret).sign(name, now, body)
        headers = {"webhook-id": name, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        return body.encode(), headers | {"Content-Type": "application/json"}

    async def send_regularly(self, count):
        """Send a webhook with one small file in each period, whether or not the ones before are answered."""
        sending = []
        for number in range(count):
            output = {"url": f"{self.source_url}/files/tone.wav?n={number}"}
            sending.append(asyncio.create_task(self.send_until_accepted(output)))
            await asyncio.sleep(PERIOD_SECONDS)
        return await asyncio.gather(*sending)

    async def seconds_until_stored(self, sent):
        """Wait until the tasks of all webhooks are completed; return the time each took since it was sent."""
        times = {generation_id: moment for generation_id, _, _, moment in sent}
        connection = await asyncpg.connect(self._stack.endpoints.database_url)
        try:
            async with asyncio.timeout(LONG_WAIT_SECONDS):
                while True:
                    rows = await connection.fetch(
                        "select generation_id, finished_at from outlast_tasks"
                        " where generation_id = any ($1) and status = 'completed'",
                        list(times),
                    )
                    if len(rows) == len(times):
                        return [(row["finished_at"] - times[row["generation_id"]]).total_seconds() for row in rows]
                    await asyncio.sleep(0.1)
        finally:
            await connection.close()


async def rows_with_too_many_files(client):
    """Each of the outputs has some 4 MB. On a busy machine its jobs may be published too late for the answer 202."""
    output = [{"url": f"https://elsewhere.example/{number}"} for number in range(ENTRIES)]
    sent = await asyncio.gather(*(client.send(output) for _ in range(2)))
    assert {status for _, status, _, _ in sent} <= {202, 503}


async def rows_with_too_many_links(client):
    """No link is a file, but each must be looked at to know that."""
    output = [f"https://elsewhere.example/{number}" for number in range(ENTRIES)]
    await asyncio.gather(*(client.send(output) for _ in range(2)))


async def rows_with_too_many_values(client):
    await asyncio.gather(*(client.send([[]] * 10 * ENTRIES) for _ in range(2)))


async def rows_with_nul_in_a_url(client):
    output = json.dumps({"url": f"{client.source_url}/files/tone.wav?x=\0"})
    await asyncio.gather(*(client.send(output) for _ in range(100)))


async def small_rows_with_many_hosts(client):
    """Each body is of a usual size, but its international hosts take some 0.4 s of processor time."""
    user, output = str(uuid4()), [f"http://\N{LATIN SMALL LETTER E WITH ACUTE}{number}" for number in range(1000)]
    while len(json.dumps(output, ensure_ascii=False).encode()) > SMALL_BYTES:
        output.pop()
    await asyncio.gather(*(client.send(output, user) for _ in range(50)))


ATTACKS = [
    small_rows_with_many_hosts,
    rows_with_too_many_files,
    rows_with_too_many_links,
    rows_with_too_many_values,
    rows_with_nul_in_a_url,
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_webhooks_of_another_user_are_answered_and_stored_as_before(stack, client, attack):
    (record,) = (stack.data_dir / "run").glob("receiver*")
    receiver = json.loads(record.read_text())["pid"]
    usual = max(await client.seconds_until_stored(await client.send_regularly(QUIET_WEBHOOKS)))
    slowness = max(1, usual / USUAL_SECONDS)
    reset_peak(receiver)
    attacking = asyncio.create_task(attack(client))
    sent = await client.send_regularly(WEBHOOKS)
    await attacking
    stored = await client.seconds_until_stored(sent)
    answered = max(seconds for _, _, seconds, _ in sent)
    peak = peak_mib(receiver)
    print(f"{attack.__name__}: {usual=:.2f} s, {answered=:.2f} s, {max(stored)=:.2f} s, {peak=:.0f} MiB")  # noqa: T201
    assert answered < slowness * FAST_SECONDS
    assert max(stored) < usual + slowness * DELAY_SECONDS
    assert peak < MAX_RECEIVER_MIB
    await stack.supervise()
    assert [worker.running for worker in stack.workers] == [True]
