"""The short scenario of `tests.chaos.run`, about a minute, in a separate process. `make chaos` runs the long one."""

import asyncio
import json
import sys
from pathlib import Path

from tests.chaos.leftovers import leftovers
from tests.time_limits import LONG_WAIT_SECONDS

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 2 * LONG_WAIT_SECONDS


async def test_nothing_is_lost_or_stored_twice_under_faults(samples, tmp_path):
    program = [sys.executable, "-m", "tests.chaos.run", "--out", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        *program, "--samples", str(samples[0].path.parent), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            output = (await process.stdout.read()).decode()
            code = await process.wait()
    except BaseException:  # it cleans up after SIGTERM
        process.terminate()
        await process.wait()
        raise
    print(output)  # noqa: T201 - pytest shows it on failure
    report = json.loads((tmp_path / "report.json").read_text())
    assert (code, report["findings"]) == (0, [])
    assert report["generations"] == 60
    assert report["completed"] + report["partial"] + report["failed"] == 60
    assert (report["worker kills"], report["broker restarts"], report["database restarts"]) == (3, 1, 1)
    assert {"batch cut", "batch dropped"} <= report["storage and calls"].keys()  # before and after their commit
    assert (tmp_path / "report.png").stat().st_size > 10_000
    assert leftovers(tmp_path / "stack") == []
