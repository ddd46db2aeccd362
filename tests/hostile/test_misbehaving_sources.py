"""Downloads from misbehaving sources: each ends with its error code, and the process's memory does not grow."""

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hostile import misbehaving_sources
from tests.hostile.raw_server import KEEP_ALIVE, RawServer, head, send
from tests.time_limits import LONG_WAIT_SECONDS

MIB = 1024 * 1024
LIMIT = 50 * MIB
CODES = {
    "slow_headers": "source_unavailable",
    "endless_headers": "source_unavailable",
    "largest_head": "source_gone",
    "endless_header_value": "source_unavailable",
    "endless_trailers": "source_unavailable",
    "endless_continue": "source_unavailable",
    "many_continue_at_once": "source_unavailable",
    "many_continue_after_a_hint": "source_unavailable",
    "slow_body": "source_unavailable",
    "slow_framing": "source_unavailable",
    "silent_body": "source_unavailable",
    "endless_chunks": "size_exceeded",
    "one_byte_chunks": "source_unavailable",
    "endless_body": "size_exceeded",
    "huge_content_length": "size_exceeded",
    "body_shorter_than_declared": "source_unavailable",
    "no_last_chunk": "source_unavailable",
    "two_content_lengths": "source_unavailable",
    "gzip_bomb": "size_exceeded",
    "deflate_bomb": "size_exceeded",
    "raw_deflate_bomb": "size_exceeded",
    "zeros_after_gzip": "size_exceeded",
    "nested_gzip": "source_unavailable",
    "empty_gzip_blocks": "size_exceeded",
    "many_gzip_members": "source_unavailable",
    "truncated_gzip": "source_unavailable",
    "not_gzip": "source_unavailable",
    "unknown_coding": "source_unavailable",
    "not_http": "source_unavailable",
    "empty_response": "source_unavailable",
    "reset_at_once": "source_unavailable",
    "endless_redirect_body": "size_exceeded",
    "endless_error_body": "source_gone",
}
GROWTH = 12 * MIB
"""Bytes for the buffers of one connection and the allocator; a tenth of the harmful responses' size."""
SETTINGS = {
    "default": {},
    "short": {"connect_timeout_seconds": 0.3, "stall_timeout_seconds": 0.5, "min_speed_kb": 1},
}
"""Settings of two processes: default time limits, and short ones for the slow sources."""
SLOW = {"slow_headers", "endless_continue", "slow_body", "slow_framing", "silent_body"}


async def misbehave(writer, request):
    name = request["path"].strip("/")
    if name == "warm_up":
        await send(writer, head(content_length=MIB), bytes(MIB))
        return KEEP_ALIVE
    return await getattr(misbehaving_sources, name)(writer, request)


async def fetch_all(source, names, folder, settings):
    """Fetch from each source in turn, in another process; return a dict from its name to the result."""
    request = {
        "urls": [f"{source.url}/{name}" for name in ("warm_up", *names)],
        "folder": str(folder),
        "settings": settings | {"source_allowlist": source.url, "max_file_size_mb": LIMIT // MIB},
    }
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.hostile.measured_downloads"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, _ = await asyncio.wait_for(child.communicate(json.dumps(request).encode()), LONG_WAIT_SECONDS)
    assert child.returncode == 0
    _, *lines = [SimpleNamespace(**json.loads(line)) for line in out.splitlines()]
    return dict(zip(names, lines, strict=True))


@pytest.fixture(scope="module")
async def results(tmp_path_factory):
    groups = {"default": CODES.keys() - SLOW, "short": SLOW}
    async with RawServer(misbehave) as source:
        by_group = await asyncio.gather(
            *(
                fetch_all(source, sorted(names), tmp_path_factory.mktemp(group), SETTINGS[group])
                for group, names in groups.items()
            )
        )
    return by_group[0] | by_group[1]


@pytest.mark.parametrize("name", CODES)
def test_a_download_ends_with_its_code_and_without_growth(results, name):
    result = results[name]
    assert result.code == CODES[name], result.message
    assert result.size <= LIMIT
    assert result.growth < GROWTH, f"the process grew by {result.growth / MIB:.1f} MiB"


def test_every_misbehaviour_has_an_expected_code():
    assert {name for name, made in vars(misbehaving_sources).items() if asyncio.iscoroutinefunction(made)} - {
        "send_slowly",
        "send",
    } == {*CODES}
