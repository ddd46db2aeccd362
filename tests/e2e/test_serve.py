"""`outlast serve`: one process that is receiver and worker, with one port."""

import asyncio
import base64
import json
import os
import signal
import sys

import aiohttp
import asyncpg
import psutil
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from deploy.local.processes import Child, free_port
from tests.listening import listening_addresses
from tests.time_limits import WAIT_SECONDS
from worker.runtime import serve

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
METRICS_TOKEN = "a-token-for-metrics"


def listening_ports(pid):
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {address.port for address in listening_addresses(processes)}


async def finished(session, url, task_id):
    """Return the task when it has ended."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            async with session.get(f"{url}/tasks/{task_id}") as answer:
                task = await answer.json()
                if answer.status == 200 and task["ready"]:
                    return task
            await asyncio.sleep(0.1)


@pytest.fixture
async def notices(stack):
    """The URL of an address that gets notices, and a queue: type and generation id of each verified notice."""
    received = asyncio.Queue()

    async def handle(request):
        notice = Webhook(SECRET).verify(await request.text(), dict(request.headers))
        received.put_nowait((notice["type"], notice["data"].get("generation_id")))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    sql = await asyncpg.connect(stack.endpoints.database_url)
    await sql.execute("insert into outlast_settings values ('notices_after', now()::text) on conflict do nothing")
    await sql.close()
    async with serve(app, "127.0.0.1", 0) as addresses:
        yield f"http://{addresses[0]}/", received


async def source_hosts(settings):
    """Return what `outlast sources` prints of each host, without numbers that other tests change."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "sources", "--json"),
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    return [{"host": host["host"].partition(":")[0], "files": host["files"] > 0} for host in json.loads(out)["items"]]


async def test_one_process_accepts_and_stores_on_one_port_until_it_is_terminated(
    stack, rabbitmq_url, tmp_path, notices
):
    port, ends = free_port(), stack.endpoints
    url = f"http://127.0.0.1:{port}"
    settings = {
        "RABBITMQ_URL": rabbitmq_url,
        "SUPABASE_URL": ends.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": ends.service_role_key,
        "SUPABASE_WEBHOOK_SECRETS": ends.webhook_secret,
        "API_TOKEN": ends.api_token,
        "NOTIFY_URLS": notices[0],
        "NOTIFY_SECRET": SECRET,
        "METRICS_TOKEN": METRICS_TOKEN,
        "CONSOLE_TOKEN": ends.console_token,
        "SOURCE_ALLOWLIST": stack.source.url,
        "RECEIVER_HOST": "127.0.0.1",
        "RECEIVER_PORT": str(port),
        "TEMP_DIR": str(tmp_path),
        "CODEC_PROCESSES": "1",
    }
    child = await Child.spawn(
        "serve", [sys.executable, "-m", "worker", "serve"], data_dir=tmp_path, env={**os.environ, **settings}
    )
    try:
        await child.wait_until_ready(f"{url}/readyz", WAIT_SECONDS)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ends.api_token}"}) as session:
            job = {"urls": [stack.source.file_url("photo.png")], "user_id": "serve", "generation_id": "serve"}
            async with session.post(f"{url}/tasks", json=job) as answer:
                task_id = (await answer.json())["task_id"]
            task = await finished(session, url, task_id)
            assert (task["status"], task["result"]["successful_files"]) == ("completed", 1)
            assert listening_ports(child.process.pid) == {port}
            async with session.get(f"{url}/metrics") as answer:
                assert answer.status == 401
            link = f"{url}/console/sign-in?token={ends.console_token}"
            async with session.get(link, allow_redirects=False) as answer:  # only the local stack has such links
                assert (answer.status, "Set-Cookie" in answer.headers) == (405, False)
            async with session.get(f"{url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}) as answer:
                metrics = await answer.text()
            assert 'outlast_jobs_total{outcome="completed",queue="file_processing"} 1.0' in metrics
            assert 'outlast_jobs_published_total{queue="file_processing"} 1.0' in metrics
        async with asyncio.timeout(WAIT_SECONDS):
            while await notices[1].get() != ("generation.completed", "serve"):
                pass
        assert {"host": "127.0.0.1", "files": True} in await source_hosts(settings)
        child.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.process.wait(), WAIT_SECONDS) == 0, child.tail()
        assert "Traceback" not in child.tail(1000)
    finally:
        await child.stop()
