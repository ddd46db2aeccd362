"""Memory that a process needs to download and store a file of 500 MB, served by another process."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

ROOT = Path(__file__).parents[2]
SIZE = 500_000_000
MAX_GROWTH = 40_000_000


async def start(*arguments):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


@pytest.fixture
async def url():
    source = await start("tests.hostile.large_file_server", str(SIZE))
    yield (await source.stdout.readline()).decode().strip()
    source.stdin.close()
    assert await asyncio.wait_for(source.wait(), WAIT_SECONDS) == 0


async def test_a_file_of_500_mb_grows_the_process_by_less_than_40_mb(url, tmp_path, record_property):
    job = await start("tests.hostile.large_file_job", url, str(tmp_path), "600")
    out, _ = await asyncio.wait_for(job.communicate(), LONG_WAIT_SECONDS)
    shutil.rmtree(tmp_path / "stored")
    result = json.loads(out)
    assert result["stored"] == [SIZE], result
    growth = result["peak"] - result["idle"]
    summary = f"{growth / 1e6:.1f} MB above {result['idle'] / 1e6:.1f} MB when idle; seconds: {result['seconds']}"
    record_property("peak_memory", summary)
    sys.stdout.write(f"peak memory: {summary}\n")
    assert growth < MAX_GROWTH, summary
