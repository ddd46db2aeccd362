"""Two receivers and three workers, of the first release and of today, as processes on one broker and one database."""

import asyncio
import dataclasses
import tarfile
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from deploy.local.processes import free_port
from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.time_limits import LONG

FIRST_RELEASE = Path(__file__).parent / "releases/first.tar.xz"
"""`git archive 568e989 schemas handlers worker`, kept here so that a shallow clone has it too."""
WAYS = {(receiver, worker) for receiver in ("first", "today") for worker in ("first", "today")}
"""A job goes from each release's receiver to each release's worker."""
ENDED = {"completed", "partial", "failed", "cancelled"}


@pytest.fixture
def first_release(tmp_path):
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Debian 12's Python has none
    with tarfile.open(FIRST_RELEASE) as archive:
        archive.extractall(tmp_path / "first", **safely)  # noqa: S202 - our own archive
    return tmp_path / "first"


async def letters(stack):
    connection = await aio_pika.connect(stack.endpoints.rabbitmq_url)
    async with connection:
        queue = await (await connection.channel()).declare_queue("outlast.dead", passive=True)
        return queue.declaration_result.message_count


async def complete(stack, today, former):
    """Complete two generations; return their ids and which receiver heard of each."""
    sent = {}
    for receiver in ("first", "today"):
        output = stack.source.output([sample.name for sample in stack.samples[:2]])
        row = {"id": str(uuid4()), "user_id": str(uuid4()), "output": output}
        await today.insert("generations", row | {"status": "processing"})
        if receiver == "today":  # by the trigger
            await today.update("generations", f"id=eq.{row['id']}", {"status": "completed"})
        else:
            await former.send_webhook(row | {"status": "completed"})
        sent[row["id"]] = receiver
    return sent


async def ended(project, count):
    """Wait until so many tasks have ended; return them."""
    while True:
        tasks = await project.select("outlast_tasks", "select=status,worker,generation_id")
        if len(tasks) == count and all(task["status"] in ENDED for task in tasks):
            return tasks
        await asyncio.sleep(0.1)


async def test_releases_share_the_work_and_nothing_is_buried(tmp_path, first_release):
    old = {"PYTHONPATH": str(first_release), "CODEC_PROCESSES": "1"}
    ports = [free_port() for _ in range(3)]
    url = f"http://127.0.0.1:{ports[0]}"
    async with Stack(tmp_path / "stack", workers=1) as stack:
        first = [
            await stack._spawn("first-receiver", ["receiver"], old | {"RECEIVER_PORT": str(ports[0])}),
            await stack._spawn("first-worker-1", ["worker"], old | {"METRICS_PORT": str(ports[1])}),
            await stack._spawn("first-worker-2", ["worker"], old | {"METRICS_PORT": str(ports[2])}),
        ]
        for child, port in zip(first, ports, strict=True):
            await child.wait_until_ready(f"http://127.0.0.1:{port}/readyz", 60)
        (worker,) = stack.workers
        release = {child.process.pid: "first" for child in first} | {worker.process.pid: "today"}
        sent, ways = {}, set()
        async with (
            Project(stack.endpoints) as project,
            Project(dataclasses.replace(stack.endpoints, receiver_url=url)) as former,
            asyncio.timeout(LONG),
        ):
            while ways < WAYS:
                for _ in range(6):
                    sent |= await complete(stack, project, former)
                tasks = await ended(project, len(sent))
                pids = {task["generation_id"]: int(task["worker"].rpartition("-")[2]) for task in tasks}
                ways = {(receiver, release[pids[generation]]) for generation, receiver in sent.items()}
        assert {task["status"] for task in tasks} == {"completed"}
        assert set(pids.values()) <= set(release)
        assert await letters(stack) == 0
        assert all(child.running for child in (*first, worker))
