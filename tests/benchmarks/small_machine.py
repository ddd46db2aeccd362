"""`python -m tests.benchmarks.small_machine`: `outlast serve` under load with a memory limit (options: `--help`).

The limit is that of a control group (as root), which contains receiver, worker and codec processes; its page cache
counts too. Where none can be made, the peak is the sum of the processes' PSS and nothing is limited. All other parts
(broker, database, gateway, source) run outside of it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.benchmarks.corpus import picture
from tests.benchmarks.resource_usage import Meter

MIB = 1024 * 1024
PICTURES = 12
PER_GENERATION = 2
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
FILES = {
    "limit": ("memory.limit_in_bytes", "memory.max"),
    "peak": ("memory.max_usage_in_bytes", "memory.peak"),
    "anonymous": ("memory.stat", "memory.stat"),
}
LAUNCH = (
    "import os, sys; from pathlib import Path\n"
    "if sys.argv[1]: Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'worker', 'serve'])"
)
"""Started by the stack in place of the receiver: enters the control group, then becomes `outlast serve`."""


class ControlGroup:
    """A control group with a memory limit (v1 or v2); `path` is empty if none can be made."""

    def __init__(self, mib: int) -> None:
        self.path = ""
        for root in GROUPS:
            folder = root / f"outlast-{uuid4().hex[:8]}"
            with contextlib.suppress(OSError):
                folder.mkdir()
                self.path = str(folder)
                self._write("limit", str(mib * MIB))
                return
            with contextlib.suppress(OSError):
                folder.rmdir()
            self.path = ""

    def read(self, name: str) -> str:
        for file in FILES[name]:
            with contextlib.suppress(OSError):
                return (Path(self.path) / file).read_text()
        return "0"

    def killed(self) -> int:
        """Return how many processes the kernel has killed for lack of memory."""
        for file in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                lines = dict(line.split() for line in (Path(self.path) / file).read_text().splitlines())
                return int(lines.get("oom_kill", 0))
        return 0

    def close(self) -> None:
        if self.path:
            Path(self.path).rmdir()

    def _write(self, name: str, value: str) -> None:
        for file in FILES[name]:
            if (Path(self.path) / file).exists():
                (Path(self.path) / file).write_text(value)
                return
        raise OSError(f"{self.path} has no memory limit")


def draw(folder: Path, side: int) -> list[str]:
    """Write the pictures that are served; return their names."""
    for number in range(PICTURES):
        picture(side, number).pngsave(str(folder / f"picture-{number}.png"))
    return [f"picture-{number}.png" for number in range(PICTURES)]


async def load(stack: Stack, files: int, side: int) -> dict[str, object]:
    """Complete generations as fast as the database takes them; return the figures when all files are stored."""
    names = await asyncio.to_thread(draw, stack.source.folder, side)
    began = time.monotonic()
    async with Project(stack.endpoints) as project:
        for number in range(0, files, PER_GENERATION):
            user = str(uuid4())  # another one each time, so that no file is known already
            row = {"id": str(uuid4()), "user_id": user, "prompt": "load", "status": "processing"}
            await project.insert("generations", row)
            chosen = [names[(number + more) % len(names)] for more in range(PER_GENERATION)]
            await project.update(
                "generations", f"id=eq.{row['id']}", {"status": "completed", "output": stack.source.output(chosen)}
            )
        while True:
            rows = await project.select("generations", "select=media_status&prompt=eq.load")
            states = [row["media_status"] for row in rows]
            if all(state in {"completed", "partial", "failed"} for state in states):
                break
            await asyncio.sleep(0.5)
    seconds = time.monotonic() - began
    ended = {state: states.count(state) for state in set(states)}
    return {"generations": ended, "seconds": round(seconds, 1), "files_per_second": round(files / seconds, 1)}


async def run(files: int, mib: int, side: int) -> dict[str, object]:
    """Run the load against one `outlast serve`."""
    group = ControlGroup(mib)
    program = (sys.executable, "-c", LAUNCH, group.path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with Stack(Path(folder), workers=0, program=program) as stack:
                pid = json.loads((stack.data_dir / "run/receiver.json").read_text())["pid"]
                async with Meter([pid]) as meter:
                    figures = await load(stack, files, side)
                figures |= {"peak_pss_mib": round(meter.peak), "measured_by": "PSS, not limited"}
                if group.path:
                    figures |= {
                        "limit_mib": int(group.read("limit")) // MIB,
                        "peak_mib": int(group.read("peak")) // MIB,
                        "killed": group.killed(),
                        "measured_by": f"control group {Path(group.path).parent}",
                    }
        return figures
    finally:
        with contextlib.suppress(OSError):
            group.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--side", type=int, default=1024, help="width and height of the pictures, in pixels")
    given = parser.parse_args()
    os.environ.setdefault("LOG_LEVEL", "INFO")
    sys.stdout.write(json.dumps(asyncio.run(run(given.files, given.mib, given.side)), indent=1) + "\n")
