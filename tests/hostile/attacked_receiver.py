"""A real `outlast receiver` in a child process, and an honest sender that measures how long its webhooks take."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import psutil
from standardwebhooks.webhooks import Webhook

from deploy.local.processes import free_port
from tests.hostile.flood import FAL_ACCOUNT
from tests.preloaded import Command
from tests.time_limits import WAIT_SECONDS

SECRET, SIGNING_SECRET = "the shared secret of the test".replace(" ", "-"), "whsec_c2lnbmluZyBzZWNyZXQgb2YgdGhlIHRlc3Q="
CONSOLE_TOKEN, API_TOKEN = "the-console-token-of-the-test", "the-api-token-of-the-test"
ROW = {"id": 7, "status": "completed", "user_id": "u", "output": {"images": [{"url": "https://fal.media/a.png"}]}}
MAX_TRIES = 10
EVENT = {"type": "UPDATE", "table": "generations", "schema": "public", "record": ROW, "old_record": None}


def peak_mib(pid):
    """Return the largest resident memory of a process so far, in MiB, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def reset_peak(pid):
    """Let the kernel count the largest resident memory of a process anew from now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class AttackedReceiver:
    """A receiver process. `answers` has the status of each honest webhook and the seconds of its longest try."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"
        self.answers = []

    @property
    def running(self):
        return self.process.returncode is None

    def peak_mib(self):
        return peak_mib(self.process.pid)

    def connections(self):
        """Return the number of open connections."""
        sockets = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(s.status == "ESTABLISHED" and s.laddr.port == self.port for s in sockets)

    async def outcome_counts(self):
        """Return the number of webhooks by outcome, from /metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        found = Counter()
        for line in lines:
            if line.startswith("outlast_webhooks_total{"):
                labels, value = line.rsplit(" ", 1)
                found[labels.split('outcome="')[1].split('"')[0]] += int(float(value))
        return found

    async def send_honestly(self, count):
        """Send a webhook every 100 ms, signed and with the shared secret in turn, and wait for all answers.

        A webhook that a busy broker confirmed too late is sent again, as its answer asks of all senders.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS)) as session:
            sending = []
            for number in range(count):
                sending.append(asyncio.create_task(self._send(session, number)))
                await asyncio.sleep(0.1)
            await asyncio.gather(*sending)

    async def _send(self, session, number):
        body = json.dumps(EVENT | {"record": ROW | {"id": number}})
        headers = {"Content-Type": "application/json"} | (_sign(body) if number % 2 else {"x-webhook-secret": SECRET})
        longest = 0.0
        for _ in range(MAX_TRIES):
            started = time.perf_counter()
            try:
                async with session.post(f"{self.url}/webhooks/supabase", data=body, headers=headers) as response:
                    status = response.status if response.status == 202 else f"{response.status} {await response.text()}"
                    late = (await response.json()).get("code") == "broker_unavailable"
            except aiohttp.ClientError as error:
                status, late = type(error).__name__, False
            longest = max(longest, time.perf_counter() - started)
            if not late:
                break
        self.answers.append((status, longest))


def _sign(body):
    now = datetime.now(UTC)
    signature = Webhook(SIGNING_SECRET).sign("msg_1", now, body)
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


@contextlib.asynccontextmanager
async def attacked_receiver(rabbitmq_url, folder, **environment):
    """Run a receiver with its log in `folder`."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "RABBITMQ_URL": rabbitmq_url,
        "SUPABASE_WEBHOOK_SECRETS": f"{SECRET} {SIGNING_SECRET}",
        "CONSOLE_TOKEN": CONSOLE_TOKEN,
        "API_TOKEN": API_TOKEN,
        "FAL_USER_IDS": FAL_ACCOUNT,
        "FAL_JWKS_URL": "http://127.0.0.1:9/jwks.json",
        "RECEIVER_HOST": "127.0.0.1",
        "RECEIVER_PORT": str(port),
        "LOG_FORMAT": "json",
    }
    with (folder / "receiver.log").open("wb") as log:
        process = await Command.start("receiver", env=env | environment, cwd=folder, log=log)
    receiver = AttackedReceiver(process, port)
    try:
        await _wait_until_ready(receiver)
        yield receiver
    finally:
        if receiver.running:
            process.terminate()
        await process.wait()


async def _wait_until_ready(receiver):
    async with asyncio.timeout(WAIT_SECONDS), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{receiver.url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def flood(kind, receiver):
    """Attack the receiver while the context is entered. The body runs once the attack has a connection."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.hostile.flood", kind, str(receiver.port)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while receiver.connections() == 0:  # reads all connections of the machine
                assert process.returncode is None
                await asyncio.sleep(0.1)
        yield
        assert process.returncode is None, "the attack has ended too early"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
