"""Serves a silent WAV file of the given size: `python -m tests.hostile.large_file_server BYTES`. Prints its URL."""

import asyncio
import struct
import sys

from tests.hostile.raw_server import KEEP_ALIVE, RawServer, head, send

MIB = 1024 * 1024
HEADER_BYTES = 44


def wav_header(size):
    """Return the header of a file of `size` bytes in total: 16 bit, stereo, 48 kHz."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 48_000, 192_000, 4, 16)
    return struct.pack("<4sI4s", b"RIFF", size - 8, b"WAVE") + form + struct.pack("<4sI", b"data", size - HEADER_BYTES)


async def main(size):
    async def answer(writer, _request):
        await send(writer, head(content_length=size), wav_header(size))
        for left in range(size - HEADER_BYTES, 0, -MIB):
            await send(writer, bytes(min(left, MIB)))
        return KEEP_ALIVE

    async with RawServer(answer) as source:
        sys.stdout.write(source.url + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)  # until the parent process closes it


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
