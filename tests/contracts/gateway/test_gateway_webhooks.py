import asyncio
import json
from contextlib import suppress

import pytest
from aiohttp import web

from deploy.local.gateway import Gateway
from deploy.local.processes import free_port
from tests.contracts.project import DATA
from tests.time_limits import SOON

pytestmark = pytest.mark.usefixtures("gateway")
SECRET = {"Content-Type": "application/json", "x-webhook-secret": "s"}


class Receiver:
    """Takes webhooks down, and answers as the test wants."""

    def __init__(self):
        self.requests = []
        self.bodies = []
        self.answer = web.Response
        self.port = 0

    async def take(self, request):
        self.bodies.append(await request.read())
        self.requests.append(request)
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"


@pytest.fixture
async def receiver():
    made = Receiver()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


async def post(database, url, body="{}", milliseconds=1000, headers=None):
    return await database.fetchval(
        "select net.http_post($1, $2::text::jsonb, '{}', $3::text::jsonb, $4)",
        url,
        body,
        json.dumps(SECRET if headers is None else headers),
        milliseconds,
    )


async def noted(database, number, count=1):
    """Wait for what is noted of a request."""
    async with asyncio.timeout(SOON):
        while True:
            rows = await database.fetch("select * from net._http_response where id >= $1 order by id", number)
            if len(rows) >= count:
                return rows[0]
            await asyncio.sleep(0.02)


async def test_the_body_arrives_as_the_database_made_it(database, receiver):
    body = '{"type": "UPDATE", "prompt": "a cat \\"quoted\\" ünï 😀", "n": 1.50}'
    text = await database.fetchval("select $1::text::jsonb::text", body)
    note = await noted(database, await post(database, receiver.url, body))
    assert receiver.bodies == [text.encode()]
    seen = dict(receiver.requests[0].headers)
    assert seen == {
        "Host": f"127.0.0.1:{receiver.port}",
        "Accept": "*/*",
        "User-Agent": "pg_net/0.20.4",
        "Content-Length": str(len(text.encode())),
        **SECRET,
    }
    assert (note["status_code"], note["timed_out"], note["error_msg"]) == (200, False, None)
    assert await database.fetchval("select count(*) from net.http_request_queue") == 0


async def test_a_recorded_webhook_arrives_as_it_was_seen_to(database, receiver):
    recorded = json.loads((DATA / "webhook.json").read_text())
    wanted = recorded["arrives"]
    await noted(database, await post(database, receiver.url, wanted["body"], headers=recorded["listed"]))
    assert receiver.bodies == [wanted["body"].encode()]
    seen = {name: value for name, value in receiver.requests[0].headers.items() if name != "Host"}
    assert (receiver.requests[0].method, seen) == (wanted["method"], wanted["headers"])


async def test_a_body_above_a_mebibyte_asks_first(database, receiver):
    body = json.dumps({"prompt": "x" * 1_100_000})
    note = await noted(database, await post(database, receiver.url, body))
    assert receiver.requests[0].headers["Expect"] == "100-continue"
    assert (note["status_code"], len(receiver.bodies[0])) == (200, len(body))


async def test_only_listed_headers_are_sent(database, receiver):
    await noted(database, await post(database, receiver.url, headers={}))
    assert set(receiver.requests[0].headers) == {"Host", "Accept", "User-Agent", "Content-Length"}


async def test_a_refusal_is_noted_and_never_sent_again(database, receiver):
    receiver.answer = lambda: web.json_response({"ok": False}, status=500)
    note = await noted(database, await post(database, receiver.url))
    assert (note["status_code"], note["content"]) == (500, '{"ok": false}')
    # A later one has come through: had the first been queued again, it would have been sent before.
    await noted(database, await post(database, receiver.url, '{"later": 1}'))
    assert receiver.bodies == [b"{}", b'{"later": 1}']


@pytest.mark.parametrize("patience", [200, 1000])
async def test_a_slow_receiver_is_given_up_and_never_asked_again(database, receiver, patience):
    receiver.answer = asyncio.Event().wait
    began = asyncio.get_running_loop().time()
    note = await noted(database, await post(database, receiver.url, milliseconds=patience))
    assert asyncio.get_running_loop().time() - began >= patience / 1000
    assert (note["status_code"], note["timed_out"]) == (None, True)
    assert note["error_msg"].startswith(f"Timeout of {patience} ms reached")
    receiver.answer = web.Response
    await noted(database, await post(database, receiver.url, '{"later": 1}'))
    assert receiver.bodies == [b"{}", b'{"later": 1}']


async def test_nobody_there(database):
    note = await noted(database, await post(database, f"http://127.0.0.1:{free_port()}/"))
    assert (note["timed_out"], note["error_msg"]) == (False, "Couldn't connect to server")
    note = await noted(database, await post(database, "nonsense"))
    assert note["error_msg"] == "URL using bad/illegal format or missing URL"


async def test_a_connection_that_is_closed_without_a_word(database, receiver):
    def hang_up():
        receiver.requests[-1].transport.abort()
        return web.Response()

    receiver.answer = hang_up
    note = await noted(database, await post(database, receiver.url))
    assert note["status_code"] is None
    assert note["error_msg"]
    assert len(receiver.requests) == 1


async def test_a_redirect_turns_post_into_get(database, receiver):
    receiver.answer = lambda: (
        web.Response(status=302, headers={"Location": "/other"}) if len(receiver.requests) == 1 else web.Response()
    )
    note = await noted(database, await post(database, receiver.url, '{"a": 1}'))
    seen = [(request.method, request.path) for request in receiver.requests]
    assert seen == [("POST", "/hook"), ("GET", "/other")]
    assert receiver.bodies[1] == b""
    assert note["status_code"] == 200


async def test_a_batch_goes_out_together_and_the_next_waits(database, receiver):
    open_door = asyncio.Event()

    async def wait():
        await open_door.wait()
        return web.Response()

    receiver.answer = wait
    async with database.transaction():
        first = await post(database, receiver.url, milliseconds=10_000)
        for _ in range(249):
            await post(database, receiver.url, milliseconds=10_000)
    async with asyncio.timeout(SOON):
        while len(receiver.requests) < 200:
            await asyncio.sleep(0.01)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            while len(receiver.requests) == 200:
                await asyncio.sleep(0.01)
    assert len(receiver.requests) == 200
    open_door.set()
    await noted(database, first, count=250)
    assert len(receiver.requests) == 250


async def test_what_is_rolled_back_is_not_sent(database, receiver):
    with suppress(ZeroDivisionError):
        async with database.transaction():
            await post(database, receiver.url)
            raise ZeroDivisionError
    await noted(database, await post(database, receiver.url, '{"kept": 1}'))
    assert receiver.bodies == [b'{"kept": 1}']


async def test_delivery_goes_on_when_the_database_is_back(database, database_url, cable, receiver, tmp_path):
    name = database_url.rpartition("/")[2]
    there = database_url.rpartition("@")[0]
    gateway = Gateway(database_url=f"{there}@127.0.0.1:{cable.port}/{name}", storage_dir=tmp_path / "storage")
    async with gateway:
        await noted(database, await post(database, receiver.url, '{"n": 1}'))
        await cable.cut()
        number = await post(database, receiver.url, '{"n": 2}')
        await cable.mend()
        await noted(database, number)
    assert receiver.bodies == [b'{"n": 1}', b'{"n": 2}']
