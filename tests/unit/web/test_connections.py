"""The limits of connections, with a real HTTP server."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from tests.time_limits import WAIT_SECONDS
from worker.runtime import serve
from worker.web.limits import client_connection, connections
from worker.web.limits.connections import keep_open


class Client:
    """One connection to the server, as bytes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, path="/", body=b"", *, length=None, headers=""):
        length = len(body) if length is None else length
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)
        return await self.answer()

    async def answer(self):
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        return int(head.split()[1])

    async def closed(self):
        """Wait until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), WAIT_SECONDS)


@pytest.fixture
async def connect(monkeypatch):
    monkeypatch.setattr(connections, "CHECK_SECONDS", 0.05)
    app, go_on = web.Application(), asyncio.Event()

    async def answer(_request):
        return web.Response(text="answered")

    async def wait(request):
        if request.path == "/kept":
            keep_open(request)
        await go_on.wait()
        return web.Response(text="waited")

    app.router.add_post("/", answer)
    app.router.add_post("/wait", wait)
    app.router.add_post("/kept", wait)
    clients = []
    async with serve(app, "127.0.0.1", 0) as (address,):
        host, port = address.split(":")

        async def connect():
            clients.append(Client(*await asyncio.open_connection(host, port)))
            return clients[-1]

        connect.go_on = go_on
        yield connect
        go_on.set()
        for client in clients:
            client.writer.transport.abort()


async def test_a_connection_serves_several_requests(connect):
    client = await connect()
    assert [await client.ask(body=b"x" * 100) for _ in range(3)] == [200] * 3


async def test_a_head_that_does_not_end_is_closed(connect, monkeypatch):
    monkeypatch.setattr(client_connection, "HEAD_SECONDS", 0.2)
    new, used = await connect(), await connect()
    assert await used.ask() == 200
    for client in (new, used):
        client.writer.write(b"POST / HTTP/1.1\r\nHost:")
    await new.closed()
    await used.closed()


async def test_a_connection_without_a_request_is_closed(connect, monkeypatch):
    monkeypatch.setattr(client_connection, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(client_connection, "IDLE_SECONDS", 0.2)
    new, used = await connect(), await connect()
    assert await used.ask() == 200
    await new.closed()
    await used.closed()


async def test_a_request_that_takes_too_long_is_closed_unless_it_is_kept_open(connect, monkeypatch):
    monkeypatch.setattr(client_connection, "REQUEST_SECONDS", 0.2)
    kept = await connect()
    answer = asyncio.create_task(kept.ask("/kept"))
    slow = await connect()
    slow.writer.write(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await slow.closed()
    assert not answer.done()
    connect.go_on.set()
    assert await answer == 200


async def test_a_kept_connection_has_its_limits_again_after_the_request(connect, monkeypatch):
    monkeypatch.setattr(client_connection, "IDLE_SECONDS", 0.2)
    connect.go_on.set()
    client = await connect()
    assert await client.ask("/kept") == 200
    await client.closed()


async def test_a_large_head_is_closed(connect):
    client = await connect()
    client.writer.write(b"POST / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 4000) for n in range(20)))
    await client.closed()


@pytest.mark.parametrize(("headers", "status"), [(97, 200), (98, None)])
async def test_a_head_of_more_than_100_lines_is_closed(connect, headers, status):
    client = await connect()
    client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(headers)))
    client.writer.write(b"\r\n")
    if status:
        assert await client.answer() == status
    else:
        await client.closed()
        with pytest.raises(EOFError):
            await client.answer()


async def test_an_exception_of_the_parser_ends_the_connection_without_a_traceback(connect, monkeypatch, caplog):
    def fail(_protocol, _data):
        raise ValueError("a bug in the parser")

    monkeypatch.setattr(web.RequestHandler, "data_received", fail)
    client = await connect()
    client.writer.write(b"POST / HTTP/1.1\r\n\r\n")
    await client.closed()
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_large_body_behind_a_head_is_not_a_large_head(connect):
    client = await connect()
    assert await client.ask(body=b"x" * 100_000) == 200


async def test_an_unread_body_ends_the_connection_after_the_response(connect):
    client = await connect()
    assert await client.ask(body=b"x" * 100_000, length=10_000_000) == 200
    client.writer.write(b"x" * 100_000)
    await client.closed()


async def test_pipelined_requests_end_the_connection_after_the_first_response(connect):
    client = await connect()
    client.writer.write(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    other = await connect()
    assert await other.ask() == 200  # so the first request is in the handler
    client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" * 10)
    assert await other.ask() == 200
    connect.go_on.set()
    assert await client.answer() == 200
    await client.closed()


async def test_a_new_connection_replaces_the_one_that_has_waited_longest(connect, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    busy = await connect()
    answer = asyncio.create_task(busy.ask("/wait"))
    first, second = await connect(), await connect()
    assert (await first.ask(), await second.ask()) == (200, 200)
    third = await connect()
    assert await third.ask() == 200
    await first.closed()
    assert await second.ask() == 200
    connect.go_on.set()
    assert await answer == 200


@pytest.mark.parametrize(
    "target",
    ["http://x/", "//x/", "*", "x:1", "/a/../b", "/./b", "/..", "/..?x", "/.?x", "/\u00fc", "/" + "a" * 5000],
)
async def test_a_bad_target_is_refused(connect, target):
    client = await connect()
    client.writer.write(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_head_may_arrive_in_pieces(connect):
    client = await connect()
    for byte in b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.002)
    assert await client.answer() == 200
    assert await client.ask(body=b"x") == 200


CHUNKED = b"POST /wait HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_chunked_body_is_accepted_with_its_head_and_later(connect):
    connect.go_on.set()
    client = await connect()
    body = b"100\r\n" + b"x" * 256 + b"\r\n"
    client.writer.write(CHUNKED + body * 100)
    await asyncio.sleep(0.05)
    client.writer.write(body * 100 + b"0\r\n\r\n")
    assert await client.answer() == 200


@pytest.mark.parametrize("waste", [b"1\r\na\r\n" * 1000, b"1;" + b"x" * 5000, b"0\r\n" + b"A: b\r\n" * 1000])
async def test_a_body_of_mostly_overhead_is_closed(connect, waste):
    client = await connect()
    client.writer.write(CHUNKED + waste)
    await client.closed()


async def test_requests_that_are_pipelined_in_one_read_are_not_served(connect):
    client = await connect()
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    client.writer.write(request * 10)
    answers = await client.reader.read()
    assert answers.count(b"HTTP/1.1 200") == 1
