"""Run a real Downloader in a network of its own: `python -m tests.hostile.isolated_downloader CERTIFICATE uvloop|asyncio`.

Reads one JSON object a line (the arguments of `visit`) and answers each with one (what came of it, and who was
connected to). Everything of the network is real but its size: the kernel, the system's resolver, DNS, TLS.
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
from tests.hostile.dns_server import Names
from tests.hostile.netlink import connections_begun, everything_is_here

TLS_PORT = 443
PLAIN_PORTS = (80, 4711, 4712, 8443)
CONTENT = "what was asked for"


class Watch(Observer):
    def __init__(self):
        self.reasons = []

    def denied(self, reason):
        self.reasons.append(reason)


class Listener:
    """Takes connections on every address there is, and notes each of them, and each request that got through."""

    def __init__(self, certificate):
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate)
        self._servers, self.connections, self.requests = [], [], []

    async def start(self):
        for port in (TLS_PORT, *PLAIN_PORTS):
            self._servers.append(await asyncio.start_server(self._serve, "0.0.0.0", port))
            with suppress(OSError):  # no IPv6 here
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
            host = head.lower().partition("\nhost: ")[2].partition("\r")[0]
            target = head.split(" ")[1]
            self.requests.append(f"{host}{target}")
            writer.write(answer(target).encode("latin-1"))
            await writer.drain()
        writer.close()


def answer(target):
    """`/to?url=...`: a redirect there; `/loop`: one to itself; `/nowhere`: one without a target; else: the content."""
    url = urlsplit(target)
    close = "Content-Length: 0\r\nConnection: close\r\n\r\n"
    if url.path == "/to":
        query = parse_qs(url.query, encoding="latin-1")
        return f"HTTP/1.1 {query.get('status', ['302'])[0]} Found\r\nLocation: {query['url'][0]}\r\n{close}"
    if url.path in {"/loop", "/nowhere"}:
        return f"HTTP/1.1 302 Found\r\n{'Location: /loop' if url.path == '/loop' else 'X: x'}\r\n{close}"
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\nConnection: close\r\n\r\n{CONTENT}"


async def visit(listener, names, url, entries, mode="enforce", answers=None, *, again=False):
    """Fetch `url` with an allow-list of `entries`, and tell what came of it. `again`: the DNS server remembers."""
    if not again:
        names.answers, names.questions = answers or {}, []
    listener.connections, listener.requests = [], []
    settings = MediaSettings(_env_file=None, source_allowlist=tuple(entries), source_allowlist_mode=mode)
    watch, begun, seen = Watch(), connections_begun(), {"error": None, "reason": None, "content": None}
    with tempfile.TemporaryDirectory() as folder:
        async with Downloader(settings, watch) as downloader:
            try:
                await downloader.fetch(url, Path(folder) / "file")
                seen["content"] = (Path(folder) / "file").read_text()
            except Exception as error:  # noqa: BLE001 - what nobody foresaw is the test's to judge
                seen |= {"error": type(error).__name__, "reason": getattr(error, "reason", None), "text": str(error)}
    return seen | {
        "denied": watch.reasons,
        "begun": connections_begun() - begun,
        "connections": listener.connections,
        "requests": listener.requests,
        "questions": names.questions,
    }


async def main(certificate):
    everything_is_here("93.184.216.34", "2606:2800:220:1::34")
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, ("127.0.0.1", 53))
    listener = Listener(certificate)
    try:
        await listener.start()
        print(json.dumps("ready"), flush=True)  # noqa: T201
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            seen = await visit(listener, names, **json.loads(line))
            print(json.dumps(seen), flush=True)  # noqa: T201
    finally:
        listener.close()
        transport.close()
        await asyncio.sleep(0)  # closing is done in the loop's next turn


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[2] == "uvloop" else None) as runner:
        runner.run(main(sys.argv[1]))
