"""A file of 500 MB brought home by a process of its own, from a source in another: what it takes of memory."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.time_limits import LONG, SOON

ROOT = Path(__file__).parents[2]
SIZE = 500_000_000
MOST = 40_000_000


async def start(*words):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


@pytest.fixture
async def url():
    source = await start("tests.hostile.large_file_server", str(SIZE))
    yield (await source.stdout.readline()).decode().strip()
    source.stdin.close()
    assert await asyncio.wait_for(source.wait(), SOON) == 0


async def test_half_a_gigabyte_takes_little_memory(url, tmp_path, record_property):
    visit = await start("tests.hostile.large_file_job", url, str(tmp_path), "600")
    out, _ = await asyncio.wait_for(visit.communicate(), LONG)
    shutil.rmtree(tmp_path / "stored")
    told = json.loads(out)
    assert told["stored"] == [SIZE], told
    grown = told["most"] - told["idle"]
    said = f"{grown / 1e6:.1f} MB above the idle process's {told['idle'] / 1e6:.1f} MB; seconds: {told['seconds']}"
    record_property("peak_memory", said)
    sys.stdout.write(f"peak memory: {said}\n")
    assert grown < MOST, said
