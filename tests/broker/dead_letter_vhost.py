"""A virtual host with dead letters for tests, and functions to create, count and read them."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aio_pika
from pydantic import SecretStr

from schemas.jobs import Job, JobFile, Profile, output_key_for, task_id_for
from schemas.urls import source_key
from tests.time_limits import WAIT_SECONDS
from worker.broker import topology
from worker.broker.envelope import PREFIX, Envelope, build_message
from worker.dead_letters.queue_lock import DeadLetterQueue
from worker.dead_letters.summary import summarize
from worker.settings import Settings

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class DeadLetterVhost:
    """A virtual host with Outlast's queues and no worker."""

    def __init__(self, url, settings, channel):
        self.url, self.settings, self.channel = url, settings, channel
        self.dead_letters = DeadLetterQueue(settings)

    @staticmethod
    def job(*urls, **more):
        files = tuple(JobFile(position=n, url=url, source_key=source_key(url)) for n, url in enumerate(urls))
        generation = more.pop("generation_id", None) or str(uuid4())
        fields = {
            "task_id": task_id_for(generation, files, Profile()),
            "generation_id": generation,
            "user_id": "u",
            "source": "supabase",
            "files": files,
            "total_files": len(files),
            "output_key": output_key_for([file.source_key for file in files]),
            "event_at": START,
        }
        return Job(**fields | more)

    async def dead_letter(self, job, code="corrupted", error="it is broken", stage="download", *, minutes=0, **history):
        """Publish a job to the dead letter exchange as a worker does; return its message."""
        envelope = replace(Envelope(job, first_seen=START), **history)
        message = envelope.message(code=code, error=error, stage=stage)
        message.headers[f"{PREFIX}failed-at"] = (START + timedelta(minutes=minutes)).isoformat()
        await self.publish(topology.DEAD, job.queue, message)
        return message

    async def dead_letter_raw(self, body, message_type="outlast.job.v1", code="undecodable"):
        headers = {f"{PREFIX}error-code": code, f"{PREFIX}error": "no job", f"{PREFIX}failed-at": START.isoformat()}
        await self.publish(topology.DEAD, "file_processing", build_message(body, "m", headers, message_type))

    async def publish(self, exchange, key, message):
        await (await self.channel.get_exchange(exchange, ensure=False)).publish(message, key)

    async def kill_workers(self, job, **history):
        """Deliver and requeue a job until RabbitMQ itself dead-letters it at the delivery limit."""
        await self.publish(topology.WORK, job.queue, Envelope(job, first_seen=START, **history).message())
        queue = await self.channel.get_queue(f"outlast.{job.queue}", ensure=False)
        before = await self.count()
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.count() == before:
                message = await queue.get(fail=False)
                if message is not None:
                    await message.nack(requeue=True)

    async def count(self, queue="outlast.dead"):
        return (await self.channel.declare_queue(queue, passive=True)).declaration_result.message_count

    async def drain(self, queue="outlast.file_processing"):
        """Remove all messages from a queue and return them."""
        found, queue = [], await self.channel.get_queue(queue, ensure=False)
        while (message := await queue.get(fail=False)) is not None:
            await message.ack()
            found.append(message)
        return found

    async def order(self):
        """Return the keys of the dead letters in queue order."""
        found = []
        async with self.dead_letters.open() as browser:
            async for _ in browser.windows(lambda message: found.append(summarize(message).key)):
                continue
        return found


@contextlib.asynccontextmanager
async def dead_letter_vhost(url):
    """Declare Outlast's queues on a virtual host; start nothing else."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        settings = Settings.load(rabbitmq_url=SecretStr(url), retry_delays=(1,))
        await topology.declare(channel, settings.retry_delays)
        yield DeadLetterVhost(url, settings, channel)
