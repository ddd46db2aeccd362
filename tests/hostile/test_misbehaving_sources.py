"""Sources that mean harm, written at the wire. A process of its own meets them all: each ends with its code, and none
makes that process grow."""

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hostile import misbehaving_sources
from tests.hostile.raw_server import Raw, head, send
from tests.time_limits import LONG

MIB = 1024 * 1024
LIMIT = 50 * MIB
ENDS = {
    "slow_head": "source_unavailable",
    "endless_headers": "source_unavailable",
    "endless_header": "source_unavailable",
    "endless_trailers": "source_unavailable",
    "endless_promises": "source_unavailable",
    "slow_body": "source_unavailable",
    "slow_framing": "source_unavailable",
    "silent_body": "source_unavailable",
    "endless_chunks": "size_exceeded",
    "crumbs": "source_unavailable",
    "endless_body": "size_exceeded",
    "vast_declaration": "size_exceeded",
    "less_than_declared": "source_unavailable",
    "no_last_chunk": "source_unavailable",
    "two_lengths": "source_unavailable",
    "gzip_bomb": "size_exceeded",
    "deflate_bomb": "size_exceeded",
    "nested_bomb": "source_unavailable",
    "hollow_gzip": "size_exceeded",
    "many_members": "source_unavailable",
    "cut_gzip": "source_unavailable",
    "no_gzip": "source_unavailable",
    "unknown_coding": "source_unavailable",
    "no_http": "source_unavailable",
    "nothing": "source_unavailable",
    "reset_at_once": "source_unavailable",
    "endless_redirect_body": "size_exceeded",
    "endless_refusal": "source_gone",
}
GROWTH = 12 * MIB
"""What the buffers of one connection, and the allocator, may take; a tenth of what the harmful answers hold."""
PATIENCE = {
    "patient": {},
    "impatient": {"connect_timeout_seconds": 0.3, "stall_timeout_seconds": 0.5, "min_speed_kb": 1},
}
"""Settings of two processes: one has all the time in the world, the other meets those who would take it."""
SLOW = {"slow_head", "endless_promises", "slow_body", "slow_framing", "silent_body"}


async def misbehave(writer, request):
    name = request["path"].strip("/")
    if name == "warm_up":
        await send(writer, head(content_length=MIB), bytes(MIB))
        return "more"
    return await getattr(manners, name)(writer, request)


async def meet(source, names, folder, settings):
    """Fetch from each in turn, in a process of its own; return what became of it, by name."""
    asked = {
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
    out, _ = await asyncio.wait_for(child.communicate(json.dumps(asked).encode()), LONG)
    assert child.returncode == 0
    _, *lines = [SimpleNamespace(**json.loads(line)) for line in out.splitlines()]
    return dict(zip(names, lines, strict=True))


@pytest.fixture(scope="module")
async def told(tmp_path_factory):
    groups = {"patient": ENDS.keys() - SLOW, "impatient": SLOW}
    async with Raw(misbehave) as source:
        ends = await asyncio.gather(
            *(meet(source, sorted(names), tmp_path_factory.mktemp(who), PATIENCE[who]) for who, names in groups.items())
        )
    return ends[0] | ends[1]


@pytest.mark.parametrize("name", ENDS)
def test_each_ends_with_its_code_and_without_growth(told, name):
    end = told[name]
    assert end.code == ENDS[name], end.said
    assert end.size <= LIMIT
    assert end.growth < GROWTH, f"the process grew by {end.growth / MIB:.1f} MiB"


def test_every_manner_is_met():
    assert {name for name, made in vars(manners).items() if asyncio.iscoroutinefunction(made)} - {"drops", "send"} == {
        *ENDS
    }
