"""Misbehaving HTTP servers: each function writes one harmful or broken response."""

import asyncio
import gzip
import itertools
import zlib

from tests.hostile.raw_server import head, reset, send

BYTE_INTERVAL_SECONDS = 0.05
MIB = 1024 * 1024
GZIP, ZLIB = gzip.compress(b"")[:10], b"\x78\x9c"
"""The first bytes of a stream of each coding."""


def zeros(start, mib):
    """Yield `mib` MiB of zeros, compressed, in pieces. Without the trailer, which no download reaches."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = coder.compress(bytes(MIB)) + coder.flush(zlib.Z_FULL_FLUSH)
    return itertools.chain([start], itertools.repeat(mebibyte * 64, mib // 64))


async def send_slowly(writer, pieces):
    for piece in pieces:
        await send(writer, piece)
        await asyncio.sleep(BYTE_INTERVAL_SECONDS)


async def slow_headers(writer, _request):
    await send_slowly(writer, itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x")))


async def endless_headers(writer, _request):
    await send(writer, b"HTTP/1.1 200 OK\r\n", *(b"X-%d: %s\r\n" % (n, b"x" * 4000) for n in range(20_000)))


async def largest_head(writer, _request):
    """As many and as long fields as are accepted, and an empty body."""
    await send(
        writer, b"HTTP/1.1 404 Not Found\r\n", *(b"X-%d: %s\r\n" % (n, b"x" * 16_000) for n in range(390)), b"\r\n"
    )


async def endless_header_value(writer, _request):
    await send(writer, b"HTTP/1.1 200 OK\r\nX: ", *itertools.repeat(b"x" * MIB, 200))


async def endless_trailers(writer, _request):
    trailers = (b"X-%d: %s\r\n" % (n, b"x" * 4000) for n in range(20_000))
    await send(writer, head(transfer_encoding="chunked"), b"1\r\na\r\n0\r\n", *trailers)


async def endless_continue(writer, _request):
    while True:
        await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await asyncio.sleep(0.001)


async def many_continue_at_once(writer, _request):
    await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000, head(content_length=1), b"x")


async def many_continue_after_a_hint(writer, _request):
    """The hint's header has what looks like the final response."""
    hint = b"HTTP/1.1 103 Early Hints\r\nX: HTTP/1.1 200 OK\r\n\r\n"
    await send(writer, hint, b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000, head(content_length=1), b"x")


async def slow_body(writer, _request):
    await send_slowly(writer, itertools.chain([head(content_length=10_000_000)], itertools.repeat(b"x")))


async def slow_framing(writer, _request):
    await send_slowly(writer, itertools.chain([head(transfer_encoding="chunked"), b"5;x="], itertools.repeat(b"x")))


async def silent_body(writer, _request):
    await send(writer, head(content_length=10), b"12345")
    await asyncio.Event().wait()


async def endless_chunks(writer, _request):
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    await send(writer, head(transfer_encoding="chunked"), *itertools.repeat(chunk, 5_000))


async def one_byte_chunks(writer, _request):
    """A million chunks of one byte, and no last chunk."""
    await send(writer, head(transfer_encoding="chunked"), *itertools.repeat(b"1\r\nx\r\n" * 10_000, 100))


async def endless_body(writer, _request):
    await send(writer, head(version="1.0"), *itertools.repeat(bytes(MIB), 300))


async def huge_content_length(writer, _request):
    await send(writer, head(content_length=10**15))
    await asyncio.Event().wait()


async def body_shorter_than_declared(writer, _request):
    await send(writer, head(content_length=10), b"12345")


async def no_last_chunk(writer, _request):
    await send(writer, head(transfer_encoding="chunked"), b"5\r\n12345\r\n")


async def two_content_lengths(writer, _request):
    await send(writer, head(content_length="5\r\nContent-Length: 6"), b"123456")


async def gzip_bomb(writer, _request):
    await send(writer, head(content_encoding="gzip"), *zeros(GZIP, 10_240))


async def deflate_bomb(writer, _request):
    await send(writer, head(content_encoding="deflate"), *zeros(ZLIB, 10_240))


async def raw_deflate_bomb(writer, _request):
    await send(writer, head(content_encoding="deflate"), *zeros(b"", 10_240))


async def zeros_after_gzip(writer, _request):
    await send(writer, head(content_encoding="gzip"), gzip.compress(b"x"), *itertools.repeat(bytes(MIB), 300))


async def nested_gzip(writer, _request):
    bomb = gzip.compress(b"".join(zeros(GZIP, 1_024)))
    await send(writer, head(content_encoding="gzip, gzip", content_length=len(bomb)), bomb)


async def empty_gzip_blocks(writer, _request):
    """Blocks without content: many bytes that decode to none."""
    blocks = b"\0\0\0\xff\xff" * 200_000
    await send(writer, head(content_encoding="gzip"), GZIP, *itertools.repeat(blocks, 300))


async def many_gzip_members(writer, _request):
    await send(writer, head(content_encoding="gzip"), *itertools.repeat(gzip.compress(b"x") * 10_000, 300))


async def truncated_gzip(writer, _request):
    body = gzip.compress(bytes(range(256)) * 100)[:-10]
    await send(writer, head(content_encoding="gzip", content_length=len(body)), body)


async def not_gzip(writer, _request):
    await send(writer, head(content_encoding="gzip", content_length=5), b"12345")


async def unknown_coding(writer, _request):
    await send(writer, head(content_encoding="br", content_length=5), b"12345")


async def not_http(writer, _request):
    await send(writer, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")


async def empty_response(writer, _request):
    writer.close()


async def reset_at_once(writer, _request):
    reset(writer)


async def endless_redirect_body(writer, _request):
    await send(writer, head("302 Found", location="/huge_content_length"), *itertools.repeat(bytes(MIB), 300))


async def endless_error_body(writer, _request):
    await send(writer, head("404 Not Found"), *itertools.repeat(bytes(MIB), 300))
