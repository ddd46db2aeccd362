"""A worker process that gets one SIGTERM, gets two, or has a full TEMP_DIR."""

import asyncio
import os
import signal
import sys
import time
from uuid import uuid4

import aio_pika
import aiohttp
import psutil
import pytest

from deploy.local.processes import Child, free_port
from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.codec_processes import is_running
from tests.time_limits import LONG_WAIT_SECONDS

QUEUE = "outlast.file_processing"
pytestmark = pytest.mark.usefixtures("broker_of_stacks")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory):
    async with Stack(tmp_path_factory.mktemp("signals"), workers=0) as running:
        yield running


@pytest.fixture
async def project(stack):
    async with Project(stack.endpoints) as found:
        yield found


async def worker(stack, name, command=(), **settings):
    """Start a worker with these settings; return it and the URL of its readiness check."""
    port = free_port()
    env = os.environ | {
        "RABBITMQ_URL": stack.endpoints.rabbitmq_url,
        "SUPABASE_URL": stack.endpoints.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.endpoints.service_role_key,
        "SOURCE_ALLOWLIST": stack.source.url,
        "TEMP_DIR": str(stack.data_dir / "tmp"),
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": str(port),
        "RETRY_DELAYS": "1,2",
    }
    env |= settings
    argv = [*command, sys.executable, "-m", "worker", "worker"]
    child = await Child.spawn(name, argv, data_dir=stack.data_dir, env=env, cwd=stack.data_dir)
    ready = f"http://127.0.0.1:{port}/readyz"
    await child.wait_until_ready(ready, LONG_WAIT_SECONDS)
    return child, ready


async def generation(project, url):
    row = {"id": str(uuid4()), "user_id": str(uuid4()), "status": "completed", "output": {"url": url}}
    await project.insert("generations", row)
    return row["id"]


async def status(project, generation_id):
    found = await project.select("outlast_tasks", f"generation_id=eq.{generation_id}")
    return found[0]["status"] if found else None


async def wait_until_equal(ask, wanted):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while await ask() != wanted:
            await asyncio.sleep(0.05)


async def start_codec_processes(child, stack, project):
    """Let a worker decode a picture; return its codec processes and their fork server."""
    done = await generation(project, f"{stack.source.url}/files/photo.png")
    await wait_until_equal(lambda: status(project, done), "completed")
    codec_processes = psutil.Process(child.process.pid).children(recursive=True)
    assert len(codec_processes) >= 2
    return codec_processes


async def queued_attempt(stack):
    """Return the attempt number of the one queued message, and requeue it."""
    async with await aio_pika.connect(stack.endpoints.rabbitmq_url) as connection:
        queue = await (await connection.channel()).get_queue(QUEUE)
        message = await queue.get()
        attempt = message.headers["x-outlast-attempt"]
        await message.nack(requeue=True)
        return attempt


def temp_folders(stack):
    return [path for path in (stack.data_dir / "tmp").iterdir() if path.name.startswith("outlast-")]


async def test_one_sigterm_requeues_the_job_and_leaves_nothing(stack, project):
    child, _ = await worker(stack, "gentle", SHUTDOWN_GRACE_SECONDS="1")
    codec_processes = await start_codec_processes(child, stack, project)
    slow = await generation(project, f"{stack.source.url}/files/photo.png?slow=20000&slow_first=1")
    await wait_until_equal(lambda: status(project, slow), "running")
    started = time.monotonic()
    child.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(child.process.wait(), LONG_WAIT_SECONDS) == 0
    assert time.monotonic() - started >= 0.7, "it has a second to finish"
    assert await queued_attempt(stack) == 1
    assert temp_folders(stack) == []
    assert not any(map(is_running, codec_processes))
    await child.stop()
    await finish_with_new_worker(stack, project, slow)


async def test_second_sigterm_ends_at_once_and_another_worker_finishes_the_job(stack, project):
    child, _ = await worker(stack, "hasty", SHUTDOWN_GRACE_SECONDS="600")
    codec_processes = await start_codec_processes(child, stack, project)
    slow = await generation(project, f"{stack.source.url}/files/photo.png?slow=20000&slow_first=1&again")
    await wait_until_equal(lambda: status(project, slow), "running")
    child.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while '"worker stops"' not in child.log.read_text():
            await asyncio.sleep(0.05)
    assert child.running, "it has ten minutes to finish"
    child.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(child.process.wait(), LONG_WAIT_SECONDS) == 1
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while any(map(is_running, codec_processes)):
            await asyncio.sleep(0.05)
    await child.stop()
    await project.update("outlast_tasks", f"generation_id=eq.{slow}", {"lease_until": "2020-01-01T00:00:00Z"})
    await finish_with_new_worker(stack, project, slow)
    assert temp_folders(stack) == [], "the next worker sweeps what was left"


async def finish_with_new_worker(stack, project, generation_id):
    """Let another worker complete the generation."""
    child, _ = await worker(stack, f"other-{uuid4().hex[:6]}", SHUTDOWN_GRACE_SECONDS="10")
    await wait_until_equal(lambda: status(project, generation_id), "completed")
    await child.stop(20)


async def test_full_temp_dir_pauses_the_worker_until_there_is_space(stack, project):
    root = os.geteuid() == 0
    tmp = stack.data_dir / "narrow"
    tmp.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp}" && exec "$@"'
    own = ["unshare", "--mount", *([] if root else ["--map-root-user"]), "sh", "-c", mount, "sh"]
    child, ready = await worker(stack, "narrow", own, TEMP_DIR=str(tmp))
    big = await generation(project, f"{stack.source.url}/files/large.png")
    await wait_until_equal(lambda: not_ready_reason(ready), "disk")
    await wait_until_equal(lambda: status(project, big), "retrying")  # recorded after the worker paused
    into = ["nsenter", "-t", str(child.process.pid), *([] if root else ["--user", "--preserve-credentials"]), "--mount"]
    process = await asyncio.create_subprocess_exec(*into, "mount", "-o", "remount,size=200m", str(tmp))
    assert await process.wait() == 0
    await wait_until_equal(lambda: status(project, big), "completed")
    assert (await project.select("outlast_tasks", f"generation_id=eq.{big}"))[0]["attempt"] == 1
    await wait_until_equal(lambda: not_ready_reason(ready), "")
    await child.stop(20)


async def not_ready_reason(ready):
    """Return the dependency that makes a worker not ready; empty when it is ready."""
    async with aiohttp.ClientSession() as session, session.get(ready) as response:
        body = await response.json(content_type=None)
        return body.get("detail", "").partition(":")[0]
