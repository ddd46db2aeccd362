"""Two receivers and three workers, of the first release and of today, as processes on one broker and one database."""

import asyncio
import dataclasses
import io
import subprocess
import tarfile
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from deploy.local.processes import free_port
from deploy.local.project import Project
from deploy.local.stack import Stack

ROOT = Path(__file__).parents[2]
FIRST_RELEASE = "568e989c5f208f4e2a4bee58f4fd96f2d54382ff"
GENERATIONS = 18
ENDED = {"completed", "partial", "failed", "cancelled"}


@pytest.fixture(scope="module")
def first_release(tmp_path_factory):
    """The first release's code, from the history: a shallow clone has none."""
    argv = ["git", "-C", str(ROOT), "archive", FIRST_RELEASE, "schemas", "handlers", "worker"]
    done = subprocess.run(argv, capture_output=True, check=True)  # noqa: S603
    folder = tmp_path_factory.mktemp("first")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


async def letters(stack):
    connection = await aio_pika.connect(stack.endpoints.rabbitmq_url)
    async with connection:
        queue = await (await connection.channel()).declare_queue("outlast.dead", passive=True)
        return queue.declaration_result.message_count


async def ended(project):
    async with asyncio.timeout(60):
        while True:
            tasks = await project.select("outlast_tasks", "select=status,worker,generation_id")
            if len(tasks) == GENERATIONS and all(task["status"] in ENDED for task in tasks):
                return tasks
            await asyncio.sleep(0.1)


@pytest.mark.history
async def test_releases_share_the_work_and_nothing_is_buried(tmp_path, first_release):
    old = {"PYTHONPATH": str(first_release), "CODEC_PROCESSES": "1"}
    ports = [free_port() for _ in range(3)]
    url = f"http://127.0.0.1:{ports[0]}"
    async with Stack(tmp_path, workers=1) as stack:
        first = [
            await stack._spawn("first-receiver", ["receiver"], old | {"RECEIVER_PORT": str(ports[0])}),
            await stack._spawn("first-worker-1", ["worker"], old | {"METRICS_PORT": str(ports[1])}),
            await stack._spawn("first-worker-2", ["worker"], old | {"METRICS_PORT": str(ports[2])}),
        ]
        for child, port in zip(first, ports, strict=True):
            await child.answers(f"http://127.0.0.1:{port}/readyz", 60)
        async with (
            Project(stack.endpoints) as project,
            Project(dataclasses.replace(stack.endpoints, receiver_url=url)) as former,
        ):
            for number in range(GENERATIONS):
                output = stack.source.output([sample.name for sample in stack.samples[:4]])
                row = {"id": str(uuid4()), "user_id": str(uuid4()), "output": output}
                await project.insert("generations", row | {"status": "processing"})
                if number % 2:  # by the trigger, to today's receiver
                    await project.update("generations", f"id=eq.{row['id']}", {"status": "completed"})
                else:
                    await former.send_webhook(row | {"status": "completed"})
            tasks = await ended(project)
        assert {task["status"] for task in tasks} == {"completed"}
        assert len({task["worker"] for task in tasks}) >= 2, "of three workers, one is today's"
        assert await letters(stack) == 0
        assert all(child.running for child in first)
