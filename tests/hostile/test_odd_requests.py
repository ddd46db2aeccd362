"""Odd requests of strangers are no server error, which would write a traceback to the log for each."""

import asyncio

import pytest

from handlers.sources import FalSource, SupabaseSource
from tests.time_limits import WAIT_SECONDS
from worker.observability.metrics import Metrics
from worker.runtime import serve
from worker.settings import Settings
from worker.web.receiver import Receiver

SECRET = "the-secret-of-the-test"
FORM = "application/x-www-form-urlencoded"
PATHS = {
    "/console/static/console.css": 200,
    "/console/static/" + "a" * 3000: 404,
    "/console/static/%00": 404,
    "/console/static/console.css/x": 404,
    "/console/static/%2e%2e/auth.py": 404,
    "/console/static/a%2fb": 404,
    "/console/%ff": 401,
    "/%ff%00": 404,
}
HEADERS = {
    "Origin": (b"http://[", b"http://a]b", b"http://a:99999", b"null", b"\xff", b""),
    "Host": (b"[", b"\xff", b"a:99999"),
    "Cookie": (b"outlast_console=\xff", b'outlast_console="', b"=;=" * 1000),
    "X-Forwarded-For": (b"[", b"\xff", b"," * 3000),
    "Content-Type": (b"\xff", b"application/json; charset=\xff", FORM.encode() + b"; charset=rot13"),
    "Authorization": (b"Bearer \xff", b"Bearer", b"\xff"),
    "traceparent": (b"00-" + b"z" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff"),
    "webhook-timestamp": (b"9" * 400, b"nan", b"\xff"),
    "Range": (b"bytes=9999999999999999999999-", b"bytes=a-b"),
    "If-Modified-Since": (b"Mon, 99 Foo 99999 99:99:99 GMT",),
}
ROUTES = (
    ("POST", "/console/sign-in", b"token=x"),
    ("GET", "/console/static/console.css", b""),
    ("POST", "/webhooks/supabase", b"{}"),
    ("POST", "/tasks", b"{}"),
)


class IdleBroker:
    """Is there, and gets nothing to do."""

    def problem(self):
        return None


class Stranger:
    """Sends one request on a connection of its own, and returns the status of the response."""

    def __init__(self, address):
        self._host, self._port = address.split(":")

    async def ask(self, method, path, body=b"", **headers):
        lines = {"Host": b"r", "Connection": b"close", "Content-Length": b"%d" % len(body), **headers}
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in lines.items())
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + head + b"\r\n" + body)
        response = await asyncio.wait_for(reader.read(100), WAIT_SECONDS)
        writer.transport.abort()
        return int(response.split(b" ")[1])


@pytest.fixture
async def stranger():
    settings = Settings(
        supabase_webhook_secrets=SECRET, api_token=SECRET, console_token=SECRET, fal_user_ids="a", trusted_proxies=1
    )
    sources = [SupabaseSource.from_settings(settings), FalSource.from_settings(settings)]
    async with serve(Receiver(settings, sources, IdleBroker(), Metrics("1")).app(), "127.0.0.1", 0) as (address,):
        yield Stranger(address)


async def test_odd_paths_are_not_found(stranger):
    assert {path: await stranger.ask("GET", path) for path in PATHS} == PATHS


async def test_odd_headers_are_no_server_error(stranger):
    failed = []
    for method, path, body in ROUTES:
        kind = FORM.encode() if path == "/console/sign-in" else b"application/json"
        for name, values in HEADERS.items():
            for value in values:
                status = await stranger.ask(method, path, body, **{"Content-Type": kind, name: value})
                failed += [(path, name, value, status)] if status >= 500 else []
    assert failed == []
