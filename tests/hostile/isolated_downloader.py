"""Runs a real Downloader in a network namespace: `python -m tests.hostile.isolated_downloader CERTIFICATE LOOP`.

LOOP is `uvloop` or `asyncio`. Reads one JSON object per line (the arguments of `fetch`) and answers each with one: the
result, the connections, and the DNS queries. The kernel, the system's resolver, DNS and TLS are real.
"""

import asyncio
import json
import ssl
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import uvloop

from handlers.download import Downloader
from handlers.observer import Observer
from handlers.settings import MediaSettings
from tests.hostile.dns_server import DnsServer
from tests.hostile.netlink import count_connection_attempts, route_everything_to_loopback

TLS_PORT = 443
PLAIN_PORTS = (80, 4711, 4712, 8443)
CONTENT = "the content"


class DenialObserver(Observer):
    def __init__(self):
        self.reasons = []

    def denied(self, reason):
        self.reasons.append(reason)


class Listener:
    """Accepts connections on all addresses; records each connection, each request, and who received which key."""

    def __init__(self, certificate):
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate)
        self._servers, self.connections, self.requests, self.keys = [], [], [], []

    async def start(self):
        for port in (TLS_PORT, *PLAIN_PORTS):
            self._servers.append(await asyncio.start_server(self._serve, "0.0.0.0", port))
            with suppress(OSError):  # no IPv6 on this machine
                self._servers.append(await asyncio.start_server(self._serve, "::", port))

    def close(self):
        for server in self._servers:
            server.close()

    async def _serve(self, reader, writer):
        address, port = writer.get_extra_info("sockname")[:2]
        self.connections.append([address, port])
        with suppress(OSError, EOFError, asyncio.IncompleteReadError):
            if port == TLS_PORT:
                await writer.start_tls(self._tls)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            host, key, length = (header(head, name) for name in ("host", "authorization", "content-length"))
            target = head.split(" ")[1]
            await reader.readexactly(int(length or 0))
            self.requests.append(f"{host}{target}")
            if key:
                self.keys.append([host, key])
            writer.write((sign(target) if host == "api.fal.ai" else response_to(target)).encode("latin-1"))
            await writer.drain()
        writer.close()


def header(head, name):
    """Return the value of a header; empty when it is missing."""
    return head.partition("\r\n\r\n")[0].lower().partition(f"\n{name}: ")[2].partition("\r")[0]


def sign(target):
    """Return FAL's response to a request for a signed link."""
    (file,) = parse_qs(urlsplit(target).query)["url"]
    signed = "https://internal.test/private" if "stolen" in file else f"{file}?identity=signed"
    body = json.dumps({"signed_url": signed})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"


def response_to(target):
    """Return the response. `/to?url=...`: a redirect; `/loop`: one to itself; `/nowhere`: one without a Location.

    A path with `private` is refused without a signed link.
    """
    url = urlsplit(target)
    close = "Content-Length: 0\r\nConnection: close\r\n\r\n"
    if url.path == "/to":
        query = parse_qs(url.query, encoding="latin-1")
        return f"HTTP/1.1 {query.get('status', ['302'])[0]} Found\r\nLocation: {query['url'][0]}\r\n{close}"
    if "private" in url.path and "identity=signed" not in url.query:
        return f"HTTP/1.1 {'404' if 'hidden' in url.path else '403'} Refused\r\n{close}"
    if url.path in {"/loop", "/nowhere"}:
        return f"HTTP/1.1 302 Found\r\n{'Location: /loop' if url.path == '/loop' else 'X: x'}\r\n{close}"
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\nConnection: close\r\n\r\n{CONTENT}"


async def fetch(listener, dns, url, entries, mode="enforce", answers=None, *, again=False, **more):
    """Fetch `url` with an allow-list of `entries` and `more` settings; return the result.

    `again`: keep the DNS server's state.
    """
    if not again:
        dns.answers, dns.queries = answers or {}, []
    listener.connections, listener.requests, listener.keys = [], [], []
    settings = MediaSettings(_env_file=None, source_allowlist=tuple(entries), source_allowlist_mode=mode, **more)
    observer, attempts, result = (
        DenialObserver(),
        count_connection_attempts(),
        {"error": None, "reason": None, "content": None},
    )
    with tempfile.TemporaryDirectory() as folder:
        async with Downloader(settings, observer) as downloader:
            try:
                await downloader.fetch(url, Path(folder) / "file")
                result["content"] = (Path(folder) / "file").read_text()
            except Exception as error:  # noqa: BLE001 - the test checks which error it is
                result |= {"error": type(error).__name__, "reason": getattr(error, "reason", None), "text": str(error)}
    return result | {
        "denied": observer.reasons,
        "attempts": count_connection_attempts() - attempts,
        "connections": listener.connections,
        "requests": listener.requests,
        "keys": listener.keys,
        "queries": dns.queries,
    }


async def main(certificate):
    route_everything_to_loopback("93.184.216.34", "2606:2800:220:1::34")
    loop = asyncio.get_running_loop()
    transport, dns = await loop.create_datagram_endpoint(DnsServer, ("127.0.0.1", 53))
    listener = Listener(certificate)
    try:
        await listener.start()
        print(json.dumps("ready"), flush=True)  # noqa: T201
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            result = await fetch(listener, dns, **json.loads(line))
            print(json.dumps(result), flush=True)  # noqa: T201
    finally:
        listener.close()
        transport.close()
        await asyncio.sleep(0)  # the transport is closed in the loop's next iteration


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[2] == "uvloop" else None) as runner:
        runner.run(main(sys.argv[1]))
