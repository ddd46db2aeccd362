"""The receiver with a real RabbitMQ: its responses, and what is enqueued."""

import asyncio
import contextlib
import io
import json
import os
import sys
import time
from urllib.parse import urlsplit

import aio_pika
import aiohttp
import pytest
from pydantic import SecretStr

from deploy.local.processes import free_port
from handlers.sources.fal import FalSource
from handlers.sources.fal_keys import Jwks
from handlers.sources.supabase import SupabaseSource
from schemas.jobs import Job
from tests.output_lines import wait_for_line
from tests.time_limits import FAST_SECONDS, WAIT_SECONDS
from worker.broker import topology
from worker.broker.connection import Broker
from worker.broker.errors import BrokerUnavailableError
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver

SECRET = "a-shared-secret-of-the-test"
GOOD = {"x-webhook-secret": SECRET}
ROW = {"id": 7, "status": "completed", "user_id": "u", "output": {"images": [{"url": "https://fal.media/a.png"}]}}
EVENT = {"type": "UPDATE", "table": "generations", "schema": "public", "record": ROW, "old_record": None}


class BrokerProxy:
    """A TCP proxy to the broker; `break_after` closes it after so many bytes from the client."""

    def __init__(self, host, port):
        self._target = (host, port)
        self._server = None
        self._connections = set()
        self._left = None
        self.port = 0
        self.broken = asyncio.Event()
        self.answers_pass = asyncio.Event()
        """Cleared, the proxy keeps what the broker sends."""
        self.answers_pass.set()

    async def open(self, break_after=None):
        self._left = break_after
        self.broken.clear()
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self):
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _join(self, reader, writer):
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(self._pump(reader, far_writer, counts=True), self._pump(far_reader, writer))
            finally:
                far_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _pump(self, reader, writer, *, counts=False):
        while data := await reader.read(65536):
            if not counts:
                await self.answers_pass.wait()
            if counts and self._left is not None:
                self._left -= len(data)
                if self._left <= 0:
                    self.broken.set()
                    break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


class ReceiverEnv:
    """A receiver in this process, an HTTP client for it, and access to the queue."""

    def __init__(self, url, session, broker, proxy, amqp_url, metrics):
        self.url, self.session, self.broker, self.proxy = url, session, broker, proxy
        self.amqp_url, self.metrics = amqp_url, metrics

    async def post(self, path="/webhooks/supabase", body=EVENT, headers=GOOD, **more):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **headers}
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=sent, **more) as response:
            content = await response.read()
            answer = json.loads(content) if content else None
            return response.status, answer, response.headers

    async def close_channel(self):
        """Let the broker close the receiver's channel, by a publish to an exchange that was deleted."""
        async with await aio_pika.connect(self.amqp_url) as connection:
            await (await connection.channel()).exchange_delete(topology.CONTROL)
        with contextlib.suppress(BrokerUnavailableError):
            await self.broker.publish(topology.CONTROL, "", aio_pika.Message(b""), WAIT_SECONDS, mandatory=False)

    async def jobs(self):
        """Remove all jobs from the queues for files and return them. A user's flood is in the bulk queue."""
        connection = await aio_pika.connect(self.amqp_url)
        async with connection:
            channel = await connection.channel()
            taken = []
            for name in ("outlast.file_processing", "outlast.file_processing.bulk"):
                queue = await channel.get_queue(name)
                while message := await queue.get(fail=False):
                    taken.append(Job.model_validate_json(message.body))
                    await message.ack()
            return taken


@contextlib.asynccontextmanager
async def run_receiver(amqp_url):
    parts = urlsplit(amqp_url)
    proxy = BrokerProxy(parts.hostname, parts.port)
    await proxy.open()
    through = amqp_url.replace(f":{parts.port}", f":{proxy.port}")
    settings = Settings.load(
        rabbitmq_url=SecretStr(through), supabase_webhook_secrets=(SecretStr(SECRET),), webhook_max_body_mb=1
    )
    metrics = Metrics("test")
    sources = [
        SupabaseSource(settings, settings.supabase_webhook_secrets),
        FalSource(Jwks("http://127.0.0.1:9/jwks.json")),
    ]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(proxy.close)
        broker = await stack.enter_async_context(Broker(settings, metrics, "test"))
        await broker.wait_ready()
        addresses = await stack.enter_async_context(
            serve(Receiver(settings, sources, broker, metrics).app(), "127.0.0.1", 0)
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield ReceiverEnv(f"http://{addresses[0]}", session, broker, proxy, amqp_url, metrics)


@pytest.fixture
async def receiver(rabbitmq_url, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    async with run_receiver(rabbitmq_url) as receiver:
        yield receiver


@pytest.fixture
async def receiver_of_own_broker(own_rabbitmq, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    async with run_receiver(own_rabbitmq.url) as receiver:
        yield receiver


async def test_completed_generation_becomes_one_job(receiver):
    status, answer, _ = await receiver.post()
    assert status == 202
    (job,) = await receiver.jobs()
    assert answer == {"task_ids": [str(job.task_id)]}
    assert (job.generation_id, job.user_id, job.source) == ("7", "u", "supabase")
    assert [file.url for file in job.files] == ["https://fal.media/a.png"]


async def test_the_same_event_gets_the_same_task(receiver):
    first = await receiver.post()
    second = await receiver.post()
    assert first[1] == second[1]


async def test_large_event_returns_all_its_task_ids(receiver):
    many = [f"https://fal.media/{n}.png" for n in range(25)]
    status, answer, _ = await receiver.post(body=EVENT | {"record": ROW | {"output": many}})
    assert status == 202
    assert len(answer["task_ids"]) == 3
    assert sum(len(job.files) for job in await receiver.jobs()) == 25


BIG = json.dumps(EVENT | {"padding": "x" * 1_100_000}).encode()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"headers": {}}, 401, "not_authenticated"),
        ({"headers": {"x-webhook-secret": "wrong"}}, 401, "not_authenticated"),
        ({"headers": {}, "body": b"not json"}, 401, "not_authenticated"),
        ({"body": b"not json"}, 422, "unreadable"),
        ({"body": b"{}"}, 422, "unreadable"),
        ({"body": b""}, 422, "unreadable"),
        ({"body": BIG}, 413, "body_too_large"),
        ({"headers": GOOD | {"Content-Type": "text/plain"}}, 415, "unsupported_type"),
        ({"path": "/webhooks/fal"}, 401, "not_authenticated"),
        ({"path": "/webhooks/nobody"}, 404, "not_found"),
        ({"path": "/healthz"}, 405, "method_not_allowed"),
    ],
)
async def test_invalid_webhook_is_rejected_and_nothing_is_enqueued(receiver, request_, status, code):
    answered, answer, headers = await receiver.post(**request_)
    assert (answered, answer["code"], answer["status"]) == (status, code, status)
    assert headers["Content-Type"].startswith("application/problem+json")
    assert answer["hint"]
    assert answer["detail"]
    assert await receiver.jobs() == []


async def test_irrelevant_webhook_is_ignored_with_the_reason(receiver):
    assert (await receiver.post(body=EVENT | {"table": "x"}))[:2] == (200, {"ignored": "other_table"})
    assert (await receiver.post(body=EVENT | {"record": ROW | {"output": {}}}))[:2] == (200, {"ignored": "no_files"})
    assert await receiver.jobs() == []


async def test_fal_webhook_without_keys_is_503_with_retry_after(receiver):
    names = ("Request-Id", "User-Id", "Signature")
    headers = {f"X-Fal-Webhook-{name}": "ab" * 64 for name in names} | {
        "X-Fal-Webhook-Timestamp": str(int(time.time()))
    }
    status, answer, answered = await receiver.post("/webhooks/fal", headers=headers)
    assert (status, answer["code"]) == (503, "verifier_unavailable")
    assert int(answered["Retry-After"]) > 0


async def test_unreachable_broker_is_503_at_once_and_recovers(receiver):
    async with asyncio.timeout(WAIT_SECONDS):
        while (await receiver.post())[0] != 202:
            await asyncio.sleep(0.1)
    await receiver.proxy.close()
    for _ in range(3):
        started = time.perf_counter()
        status, answer, headers = await receiver.post()
        assert (status, answer["code"]) == (503, "broker_unavailable")
        assert int(headers["Retry-After"]) > 0
        assert time.perf_counter() - started < FAST_SECONDS
    async with receiver.session.get(receiver.url + "/readyz") as response:
        assert response.status == 503
    async with receiver.session.get(receiver.url + "/healthz") as response:
        assert response.status == 200
    await receiver.proxy.open()
    async with asyncio.timeout(WAIT_SECONDS):
        while (await receiver.post())[0] != 202:
            await asyncio.sleep(0.1)
    assert len({job.task_id for job in await receiver.jobs()}) == 1


@pytest.mark.parametrize("milliseconds", ["1", "1" + "0" * 4000])
async def test_any_timeout_of_a_sender_is_accepted(receiver, milliseconds):
    body = json.dumps(EVENT)[:-1] + f', "outlast": {{"timeout_ms": {milliseconds}}}}}'
    assert (await receiver.post(body=body.encode()))[0] == 202


async def test_a_webhook_waits_for_a_slow_broker_as_long_as_its_sender_says(receiver):
    assert (await receiver.post())[0] == 202
    receiver.proxy.answers_pass.clear()
    patient = asyncio.create_task(receiver.post(body=EVENT | {"outlast": {"timeout_ms": 60_000}}))
    status, answer, _ = await receiver.post(body=EVENT | {"record": ROW | {"id": 8}})
    assert (status, answer["code"]) == (503, "broker_unavailable")
    assert not patient.done()
    receiver.proxy.answers_pass.set()
    assert (await patient)[0] == 202


async def test_broker_restart_keeps_confirmed_jobs(receiver_of_own_broker, own_rabbitmq):
    receiver = receiver_of_own_broker
    _, first, _ = await receiver.post()
    await own_rabbitmq.stop()
    started = time.perf_counter()
    status, answer, headers = await receiver.post(body=EVENT | {"record": ROW | {"id": 8}})
    assert (status, answer["code"]) == (503, "broker_unavailable")
    assert int(headers["Retry-After"]) > 0
    assert time.perf_counter() - started < FAST_SECONDS
    await own_rabbitmq.start()
    async with asyncio.timeout(WAIT_SECONDS):
        while (await receiver.post(body=EVENT | {"record": ROW | {"id": 9}}))[0] != 202:
            await asyncio.sleep(0.1)
    ids = [str(job.task_id) for job in await receiver.jobs()]
    assert ids[0] == first["task_ids"][0]
    assert len(set(ids)) == 2


async def test_burst_of_200_webhooks_becomes_200_jobs(receiver):
    async def send(number):
        """Send until it is accepted: on a busy machine the broker's confirm may take longer than a webhook may wait."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (status := (await receiver.post(body=EVENT | {"record": ROW | {"id": number}}))[0]) == 503:
                await asyncio.sleep(number / 50)  # if all sent again at once, a busy broker would be late again
        return status

    assert await asyncio.gather(*(send(number) for number in range(200))) == [202] * 200
    assert len({job.task_id for job in await receiver.jobs()}) == 200


@pytest.mark.parametrize("how", ["cut", "closed"])
async def test_webhook_during_a_broker_failure_is_202_with_its_job_queued_or_503(receiver, how):
    left, answers, third = iter(range(600)), {}, asyncio.Event()

    async def send():
        for number in left:
            status, answer, headers = await receiver.post(body=EVENT | {"record": ROW | {"id": number}})
            answers[number] = (status, answer["task_ids"][0] if status == 202 else headers["Retry-After"])
            if len(answers) >= 200:
                third.set()

    sending = asyncio.gather(*(send() for _ in range(50)))
    await third.wait()
    if how == "cut":
        await receiver.proxy.close()
        await receiver.proxy.open()
    else:
        await receiver.close_channel()
    await sending
    assert {202} <= {status for status, _ in answers.values()} <= {202, 503}
    confirmed = {task_id for status, task_id in answers.values() if status == 202}
    assert confirmed <= {str(job.task_id) for job in await receiver.jobs()}
    async with asyncio.timeout(WAIT_SECONDS):
        while (await receiver.post())[0] != 202:
            await asyncio.sleep(0.1)


async def test_webhooks_to_a_deleted_queue_are_confirmed_only_when_it_exists_again(receiver):
    connection = await aio_pika.connect(receiver.amqp_url)
    async with connection:
        await (await connection.channel()).queue_delete("outlast.file_processing")

    async def post_until_accepted(generation):
        event = EVENT | {"record": ROW | {"id": generation}}
        async with asyncio.timeout(WAIT_SECONDS):
            while (answer := await receiver.post(body=event))[0] != 202:
                assert (answer[0], answer[1]["code"]) == (503, "broker_unavailable")
                assert int(answer[2]["Retry-After"]) > 0

    await asyncio.gather(*(post_until_accepted(generation) for generation in range(5)))
    jobs = await receiver.jobs()  # one that was answered 503 may have been published too
    assert {job.generation_id for job in jobs} == {"0", "1", "2", "3", "4"}


async def test_metrics_count_accepted_and_rejected_webhooks(receiver):
    async with asyncio.timeout(WAIT_SECONDS):
        while (await receiver.post())[0] != 202:
            await asyncio.sleep(0.05)  # the broker was busy
    await receiver.post(headers={})
    async with receiver.session.get(receiver.url + "/metrics") as response:
        text = await response.text()
    assert 'outlast_webhooks_total{outcome="accepted",source="supabase"} 1.0' in text
    assert 'outlast_webhooks_total{outcome="rejected",source="supabase"} 1.0' in text
    assert 'outlast_signature_rejected_total{source="supabase"} 1.0' in text
    assert "# HELP outlast_jobs_total" in text


async def test_broker_connection_that_breaks_during_setup_is_retried(rabbitmq_url):
    parts = urlsplit(rabbitmq_url)
    proxy = BrokerProxy(parts.hostname, parts.port)
    await proxy.open()
    await proxy.close()
    url = rabbitmq_url.replace(f":{parts.port}", f":{proxy.port}")
    settings = Settings.load(_env_file=None, rabbitmq_url=SecretStr(url))
    async with Broker(settings, Metrics("test"), "test") as broker:
        assert not broker.ready
        for bytes_more in range(1, 6):
            # Each time the proxy breaks a little later, so that it breaks during the declarations.
            await proxy.open(break_after=bytes_more * 600)
            await asyncio.wait_for(proxy.broken.wait(), WAIT_SECONDS)
            await proxy.close()
        assert not broker.ready
        await proxy.open()
        await asyncio.wait_for(broker.wait_ready(), WAIT_SECONDS)
        assert broker.ready
    await proxy.close()


async def test_receiver_without_a_broker_can_be_stopped(tmp_path):
    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "receiver"),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "RABBITMQ_URL": f"amqp://127.0.0.1:{port}/",
            "SUPABASE_WEBHOOK_SECRETS": SECRET,
            "RECEIVER_HOST": "127.0.0.1",
            "RECEIVER_PORT": str(free_port()),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    await wait_for_line(process.stderr, b"listening")
    process.terminate()
    await asyncio.wait_for(process.stderr.read(), WAIT_SECONDS)
    assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 0
    silent.close()
    await silent.wait_closed()
