"""Waiting for a line that a child process prints."""

import asyncio

from tests.time_limits import LONG_WAIT_SECONDS


async def wait_for_line(stream, text):
    """Read lines until one contains `text`. Fails if the output ends without it, or after LONG_WAIT_SECONDS."""
    lines = []
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while text not in (line := await stream.readline()):
            lines.append(line)
            assert line, b"".join(lines).decode(errors="replace")
