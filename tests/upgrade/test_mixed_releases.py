"""Two receivers and three workers, of the first and the current release, with one broker and one database."""

import asyncio
import contextlib
import dataclasses
import os
import sys
import tarfile
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from deploy.local.processes import Child, free_port
from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.time_limits import LONG_WAIT_SECONDS

FIRST_RELEASE = Path(__file__).parent / "releases/first.tar.xz"
"""`git archive 568e989 schemas handlers worker`, stored here because a shallow clone does not have that commit."""
PATHS = {(receiver, worker) for receiver in ("first", "current") for worker in ("first", "current")}
"""Pairs of (receiver's release, worker's release): jobs must have taken all of them."""
ENDED = {"completed", "partial", "failed", "cancelled"}


@pytest.fixture
def first_release(tmp_path):
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Debian 12's Python does not have it
    with tarfile.open(FIRST_RELEASE) as archive:
        archive.extractall(tmp_path / "first", **safely)  # noqa: S202 - our own archive
    return tmp_path / "first"


async def dead_letter_count(stack):
    connection = await aio_pika.connect(stack.endpoints.rabbitmq_url)
    async with connection:
        queue = await (await connection.channel()).declare_queue("outlast.dead", passive=True)
        return queue.declaration_result.message_count


async def complete(stack, current, first_receiver):
    """Complete two generations; return their ids and the receiver that got the webhook of each."""
    sent = {}
    for receiver in ("first", "current"):
        output = stack.source.output([sample.name for sample in stack.samples[:2]])
        row = {"id": str(uuid4()), "user_id": str(uuid4()), "output": output}
        await current.insert("generations", row | {"status": "processing"})
        if receiver == "current":  # by the trigger
            await current.update("generations", f"id=eq.{row['id']}", {"status": "completed"})
        else:
            await first_receiver.send_webhook(row | {"status": "completed"})
        sent[row["id"]] = receiver
    return sent


async def ended(project, count):
    """Wait until `count` tasks have ended; return them."""
    while True:
        tasks = await project.select("outlast_tasks", "select=status,worker,generation_id")
        if len(tasks) == count and all(task["status"] in ENDED for task in tasks):
            return tasks
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def first_release_process(stack, first_release, command, number):
    """Run a receiver or worker of the first release with the stack's services; yield the process and its URL."""
    port, endpoints = free_port(), stack.endpoints
    env = os.environ | {
        "PYTHONPATH": str(first_release),
        "RABBITMQ_URL": endpoints.rabbitmq_url,
        "SUPABASE_URL": endpoints.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": endpoints.service_role_key,
        "SUPABASE_WEBHOOK_SECRETS": endpoints.webhook_secret,
        "SOURCE_ALLOWLIST": endpoints.source_url,
        "CODEC_PROCESSES": "1",
        "TEMP_DIR": str(stack.data_dir / "tmp"),
        "RECEIVER_HOST": "127.0.0.1",
        "METRICS_HOST": "127.0.0.1",
        "RECEIVER_PORT" if command == "receiver" else "METRICS_PORT": str(port),
    }
    argv = (sys.executable, "-m", "worker", command)
    child = await Child.spawn(f"first-{command}-{number}", argv, data_dir=stack.data_dir, env=env, cwd=stack.data_dir)
    try:
        await child.wait_until_ready(f"http://127.0.0.1:{port}/readyz", 60)
        yield child, f"http://127.0.0.1:{port}"
    finally:
        await child.stop(40)


@pytest.mark.usefixtures("broker_of_stacks")
async def test_jobs_pass_between_both_releases_without_dead_letters(tmp_path, first_release):
    async with (
        Stack(tmp_path / "stack", workers=1) as stack,
        first_release_process(stack, first_release, "receiver", 1) as (receiver, url),
        first_release_process(stack, first_release, "worker", 1) as (worker_1, _),
        first_release_process(stack, first_release, "worker", 2) as (worker_2, _),
    ):
        first = [receiver, worker_1, worker_2]
        (worker,) = stack.workers
        release = {child.process.pid: "first" for child in first} | {worker.process.pid: "current"}
        sent, paths = {}, set()
        async with (
            Project(stack.endpoints) as project,
            Project(dataclasses.replace(stack.endpoints, receiver_url=url)) as first_receiver,
            asyncio.timeout(LONG_WAIT_SECONDS),
        ):
            while paths < PATHS:
                for _ in range(6):
                    sent |= await complete(stack, project, first_receiver)
                tasks = await ended(project, len(sent))
                pids = {task["generation_id"]: int(task["worker"].rpartition("-")[2]) for task in tasks}
                paths = {(receiver, release[pids[generation]]) for generation, receiver in sent.items()}
        assert {task["status"] for task in tasks} == {"completed"}
        assert set(pids.values()) <= set(release)
        assert await dead_letter_count(stack) == 0
        assert all(child.running for child in (*first, worker))
