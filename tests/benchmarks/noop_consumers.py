"""Consumers that do nothing: `python -m tests.benchmarks.noop_consumers SIDE RABBITMQ_URL fill COUNT | drain`."""

import asyncio
import os
import sys
import time
from types import SimpleNamespace
from typing import Any, Final

import aio_pika
import uvloop
from pydantic import SecretStr

from schemas.jobs import Queue
from tests.benchmarks.environment import ROOT
from worker.broker import topology
from worker.broker.connection import Broker
from worker.consume.consumer import Consumer
from worker.consume.delivery import Delivery
from worker.observability.logs import configure
from worker.observability.metrics import Metrics
from worker.settings import Settings

BODY: Final = b'"' + b"x" * 1000 + b'"'
PREFETCH: Final = 16
QUEUES: Final = {"outlast": topology.work_queue(Queue.FILES), "faststream": "nothing", "celery": "peer"}


class NoopHandler:
    """Handles a delivery by acknowledging it."""

    envelope: Final = None
    leased: Final = None

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.started = time.monotonic()

    def stop(self, _why: str) -> None:
        """Do nothing: there is no work to stop."""

    def log_fields(self) -> dict[str, Any]:
        return {}

    async def run(self) -> str:
        await self.delivery.ack()
        return "completed"


async def fill(side: str, url: str, count: int) -> None:
    """Publish `count` messages to the side's queue, which is declared as the side declares it."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await topology.declare(channel, [1])
        if side == "faststream":
            await channel.declare_queue(QUEUES[side], durable=True, arguments={"x-queue-type": "quorum"})
        if side == "celery":
            await asyncio.to_thread(_send_tasks, url, count)
            return
        persistent = aio_pika.DeliveryMode.PERSISTENT
        message = aio_pika.Message(BODY, content_type="application/json", delivery_mode=persistent)
        for _ in range(0, count, 500):
            await asyncio.gather(*(channel.default_exchange.publish(message, QUEUES[side]) for _ in range(500)))


def _send_tasks(url: str, count: int) -> None:
    from tests.benchmarks import celery_peer  # noqa: PLC0415 - Celery is slow to import

    with celery_peer.app.connection_for_write(url) as connection, connection.Producer() as producer:
        for _ in range(count):
            celery_peer.nothing.apply_async((BODY.decode(),), producer=producer)


async def drain_outlast(url: str) -> None:
    settings = Settings.load(rabbitmq_url=SecretStr(url), log_format="json")
    configure(settings)
    metrics = Metrics("bench")
    async with Broker(settings, metrics, "bench") as broker:
        await broker.wait_ready()
        context = SimpleNamespace(metrics=metrics, records=SimpleNamespace(note_undecodable=None))
        consumer = Consumer(broker, context, PREFETCH, Queue.FILES, NoopHandler)
        await consumer.start()
        await asyncio.Event().wait()


async def drain_faststream(url: str) -> None:
    from faststream import FastStream  # noqa: PLC0415 - only this side needs it
    from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue  # noqa: PLC0415 - the same

    broker = RabbitBroker(url, default_channel=Channel(prefetch_count=PREFETCH))

    @broker.subscriber(RabbitQueue(QUEUES["faststream"], queue_type=QueueType.QUORUM, durable=True))
    async def nothing(_body: str) -> None:
        pass

    await FastStream(broker).run()


def main() -> None:
    side, url, verb, *rest = sys.argv[1:]
    if verb == "fill":
        uvloop.run(fill(side, url, int(rest[0])))
    elif side == "celery":
        argv = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.celery_peer", "worker"]
        env = {**os.environ, "RABBITMQ_URL": url, "PYTHONPATH": str(ROOT)}
        os.execve(argv[0], [*argv, "--pool=prefork", "--concurrency=2", "-l", "info"], env)  # noqa: S606 - our own interpreter
    else:
        uvloop.run({"outlast": drain_outlast, "faststream": drain_faststream}[side](url))


if __name__ == "__main__":
    main()
