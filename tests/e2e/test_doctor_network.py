"""Doctor reports problems with broker, clocks, receivers, and servers that are wrong or do not answer."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aio_pika
import aiohttp
import pytest
from aiohttp import web

from tests.e2e.doctor_installation import QUICK_CHECKS, project, serving, with_receiver
from tests.time_limits import WAIT_SECONDS
from worker.broker import topology


@pytest.fixture
async def installation(database_url, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with project(database_url, source, tmp_path) as found:
        yield found


@pytest.fixture
async def running_installation(installation, rabbitmq_url):
    async with with_receiver(installation, rabbitmq_url) as found:
        yield found


async def test_jobs_without_consumers_and_queues_with_wrong_arguments_are_reported(running_installation):
    async with await aio_pika.connect(running_installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), "outlast.file_processing")
        async with asyncio.timeout(WAIT_SECONDS):
            while (await running_installation.run_checks())["topology"][0] != "warning":
                await asyncio.sleep(0.1)
        await channel.queue_delete(topology.DEAD)
        await channel.declare_queue(topology.DEAD, durable=True)
        found = await running_installation.run_checks()
        assert found["topology"][0] == "failed"
        assert "the queue outlast.dead exists with other arguments" in found["topology"][1]
        assert "rabbitmqctl delete_queue outlast.dead" in found["topology"][2]


async def test_a_missing_virtual_host_a_wrong_password_and_permissions_are_reported(running_installation, rabbitmq):
    base, _, vhost = running_installation.rabbitmq_url.rpartition("/")
    await rabbitmq.manage("PUT", "users/weak", {"password": "weakly-kept", "tags": ""})
    found = await running_installation.run_checks(RABBITMQ_URL=f"{base}/nowhere")
    assert found["broker"][0] == "failed"
    assert "no virtual host 'nowhere'" in found["broker"][1]
    assert "rabbitmqctl add_vhost nowhere" in found["broker"][2]
    place = base.partition("@")[2]
    found = await running_installation.run_checks(RABBITMQ_URL=f"amqp://weak:wrong-password@{place}/{vhost}")
    assert "refuses the user 'weak' or its password" in found["broker"][1]
    await rabbitmq.set_permissions(vhost, "^x", "^x", "^x", user="weak")
    found = await running_installation.run_checks(RABBITMQ_URL=f"amqp://weak:weakly-kept@{place}/{vhost}")
    assert (found["broker"][0], found["broker rights"][0]) == ("ok", "failed")
    assert f"set_permissions -p {vhost} weak" in found["broker rights"][2]


async def test_doctor_declares_nothing_in_an_empty_virtual_host(running_installation, rabbitmq):
    url = await rabbitmq.create_vhost("empty")
    found = await running_installation.run_checks(RABBITMQ_URL=url)
    assert found["topology"][0] == "ok"
    assert "do not exist yet" in found["topology"][1]
    async with await aio_pika.connect(url) as connection:
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await (await connection.channel()).declare_queue(topology.DEAD, passive=True)


async def test_a_wrong_clock_is_reported(installation):
    async def off(request):
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                f"{installation.gateway.url}{request.path_qs}",
                headers={name: request.headers[name] for name in ("apikey", "Authorization")},
                data=await request.read(),
            ) as answer,
        ):
            late = format_datetime(datetime.now(UTC) - timedelta(minutes=10), usegmt=True)
            body = await answer.read()
            return web.Response(
                body=body, status=answer.status, content_type="application/json", headers={"Date": late}
            )

    async with serving(off) as url:
        found = await installation.run_checks(SUPABASE_URL=url)
    assert found["clock"][0] == "failed"
    assert "s apart" in found["clock"][1]
    assert "NTP" in found["clock"][2]
    assert found["functions"][0] == "ok"


async def test_wrong_servers_at_the_urls_are_reported(installation):
    async def page(_request):
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    async with serving(page) as url:
        found = await installation.run_checks(SUPABASE_URL=url)
        assert found["supabase"][0] == "failed"
        assert "not like a Supabase project" in found["supabase"][1]
        await installation.sql.execute(
            "update public.outlast_settings set value = $1 where key = 'webhook_url'", f"{url}/webhooks/supabase"
        )
        found = await installation.run_checks(FAL_JWKS_URL=url)
        assert (found["receiver"][0], found["fal keys"][0]) == ("failed", "warning")
        assert "not like a receiver" in found["receiver"][1]


async def test_a_receiver_with_another_secret_is_reported(installation):
    async def refuse(_request):
        return web.json_response({"message": "no"}, status=401)

    async with serving(refuse) as url:
        await installation.sql.execute(
            "update public.outlast_settings set value = $1 where key = 'webhook_url'", f"{url}/webhooks/supabase"
        )
        found = await installation.run_checks()
    assert found["receiver"][0] == "failed"
    assert "refuses our signature" in found["receiver"][1]


async def test_servers_that_never_answer_end_in_a_timeout(installation):
    async def never(_reader, writer):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    hasty = [replace(check, seconds=0.3) for check in QUICK_CHECKS]
    async with asyncio.timeout(WAIT_SECONDS):
        found = await installation.run_checks(
            hasty, SUPABASE_URL=f"http://{place}", RABBITMQ_URL=f"amqp://u:p@{place}/"
        )
    server.close()
    for check in ("supabase", "broker"):
        assert found[check][:2] == ("failed", "no answer within 0.3 s")
