import asyncio
import json
from contextlib import suppress

import pytest
from aiohttp import web

from deploy.local.gateway import Gateway
from tests.contracts.project import DATA
from tests.listening import refused_port
from tests.time_limits import WAIT_SECONDS

pytestmark = pytest.mark.usefixtures("gateway")
SECRET = {"Content-Type": "application/json", "x-webhook-secret": "s"}


class Receiver:
    """Records webhooks, and answers them with `respond`."""

    def __init__(self):
        self.requests = []
        self.bodies = []
        self.respond = web.Response
        self.port = 0

    async def handle(self, request):
        self.bodies.append(await request.read())
        self.requests.append(request)
        response = self.respond()
        return await response if asyncio.iscoroutine(response) else response

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"


@pytest.fixture
async def receiver():
    created = Receiver()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", created.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    created.port = runner.addresses[0][1]
    yield created
    await runner.cleanup()


async def post(database, url, body="{}", milliseconds=1000, headers=None):
    return await database.fetchval(
        "select net.http_post($1, $2::text::jsonb, '{}', $3::text::jsonb, $4)",
        url,
        body,
        json.dumps(SECRET if headers is None else headers),
        milliseconds,
    )


async def recorded_response(database, request_id, count=1):
    """Wait until pg_net has recorded `count` responses from this request on; return the first."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            rows = await database.fetch("select * from net._http_response where id >= $1 order by id", request_id)
            if len(rows) >= count:
                return rows[0]
            await asyncio.sleep(0.02)


async def test_the_body_arrives_as_written_by_the_database(database, receiver):
    body = '{"type": "UPDATE", "prompt": "a cat \\"quoted\\" ünï 😀", "n": 1.50}'
    text = await database.fetchval("select $1::text::jsonb::text", body)
    response = await recorded_response(database, await post(database, receiver.url, body))
    assert receiver.bodies == [text.encode()]
    received = dict(receiver.requests[0].headers)
    assert received == {
        "Host": f"127.0.0.1:{receiver.port}",
        "Accept": "*/*",
        "User-Agent": "pg_net/0.20.4",
        "Content-Length": str(len(text.encode())),
        **SECRET,
    }
    assert (response["status_code"], response["timed_out"], response["error_msg"]) == (200, False, None)
    assert await database.fetchval("select count(*) from net.http_request_queue") == 0


async def test_a_recorded_webhook_arrives_as_from_a_real_project(database, receiver):
    recorded = json.loads((DATA / "webhook.json").read_text())
    expected = recorded["arrives"]
    await recorded_response(database, await post(database, receiver.url, expected["body"], headers=recorded["listed"]))
    assert receiver.bodies == [expected["body"].encode()]
    received = {name: value for name, value in receiver.requests[0].headers.items() if name != "Host"}
    assert (receiver.requests[0].method, received) == (expected["method"], expected["headers"])


async def test_a_body_over_one_mebibyte_is_sent_with_expect_100_continue(database, receiver):
    body = json.dumps({"prompt": "x" * 1_100_000})
    response = await recorded_response(database, await post(database, receiver.url, body))
    assert receiver.requests[0].headers["Expect"] == "100-continue"
    assert (response["status_code"], len(receiver.bodies[0])) == (200, len(body))


async def test_only_given_and_default_headers_are_sent(database, receiver):
    await recorded_response(database, await post(database, receiver.url, headers={}))
    assert set(receiver.requests[0].headers) == {"Host", "Accept", "User-Agent", "Content-Length"}


async def test_an_error_response_is_recorded_and_not_sent_again(database, receiver):
    receiver.respond = lambda: web.json_response({"ok": False}, status=500)
    response = await recorded_response(database, await post(database, receiver.url))
    assert (response["status_code"], response["content"]) == (500, '{"ok": false}')
    # If the first had been queued again, it would have been sent before this one.
    await recorded_response(database, await post(database, receiver.url, '{"later": 1}'))
    assert receiver.bodies == [b"{}", b'{"later": 1}']


@pytest.mark.parametrize("timeout_ms", [200, 1000])
async def test_a_slow_receiver_times_out_and_is_not_sent_the_webhook_again(database, receiver, timeout_ms):
    receiver.respond = asyncio.Event().wait
    started = asyncio.get_running_loop().time()
    response = await recorded_response(database, await post(database, receiver.url, milliseconds=timeout_ms))
    assert asyncio.get_running_loop().time() - started >= timeout_ms / 1000
    assert (response["status_code"], response["timed_out"]) == (None, True)
    assert response["error_msg"].startswith(f"Timeout of {timeout_ms} ms reached")
    receiver.respond = web.Response
    await recorded_response(database, await post(database, receiver.url, '{"later": 1}'))
    assert receiver.bodies == [b"{}", b'{"later": 1}']


async def test_an_unreachable_or_invalid_url_is_recorded_as_an_error(database):
    with refused_port() as port:
        response = await recorded_response(database, await post(database, f"http://127.0.0.1:{port}/"))
    assert (response["timed_out"], response["error_msg"]) == (False, "Couldn't connect to server")
    response = await recorded_response(database, await post(database, "not-a-url"))
    assert response["error_msg"] == "URL using bad/illegal format or missing URL"


async def test_a_connection_closed_without_a_response_is_recorded_as_an_error(database, receiver):
    def hang_up():
        receiver.requests[-1].transport.abort()
        return web.Response()

    receiver.respond = hang_up
    response = await recorded_response(database, await post(database, receiver.url))
    assert response["status_code"] is None
    assert response["error_msg"]
    assert len(receiver.requests) == 1


async def test_a_redirect_is_followed_with_get(database, receiver):
    receiver.respond = lambda: (
        web.Response(status=302, headers={"Location": "/other"}) if len(receiver.requests) == 1 else web.Response()
    )
    response = await recorded_response(database, await post(database, receiver.url, '{"a": 1}'))
    received = [(request.method, request.path) for request in receiver.requests]
    assert received == [("POST", "/hook"), ("GET", "/other")]
    assert receiver.bodies[1] == b""
    assert response["status_code"] == 200


async def test_at_most_200_requests_are_sent_before_the_next_batch(database, receiver):
    may_respond = asyncio.Event()

    async def wait():
        await may_respond.wait()
        return web.Response()

    receiver.respond = wait
    async with database.transaction():
        first = await post(database, receiver.url, milliseconds=10_000)
        for _ in range(249):
            await post(database, receiver.url, milliseconds=10_000)
    async with asyncio.timeout(WAIT_SECONDS):
        while len(receiver.requests) < 200:
            await asyncio.sleep(0.01)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            while len(receiver.requests) == 200:
                await asyncio.sleep(0.01)
    assert len(receiver.requests) == 200
    may_respond.set()
    await recorded_response(database, first, count=250)
    assert len(receiver.requests) == 250


async def test_a_rolled_back_request_is_not_sent(database, receiver):
    with suppress(ZeroDivisionError):
        async with database.transaction():
            await post(database, receiver.url)
            raise ZeroDivisionError
    await recorded_response(database, await post(database, receiver.url, '{"kept": 1}'))
    assert receiver.bodies == [b'{"kept": 1}']


async def test_requests_are_sent_after_a_database_outage(database, database_url, database_proxy, receiver, tmp_path):
    name = database_url.rpartition("/")[2]
    server = database_url.rpartition("@")[0]
    gateway = Gateway(database_url=f"{server}@127.0.0.1:{database_proxy.port}/{name}", storage_dir=tmp_path / "storage")
    async with gateway:
        await recorded_response(database, await post(database, receiver.url, '{"n": 1}'))
        await database_proxy.disconnect()
        request_id = await post(database, receiver.url, '{"n": 2}')
        await database_proxy.connect()
        await recorded_response(database, request_id)
    assert receiver.bodies == [b'{"n": 1}', b'{"n": 2}']
