"""Fetch URLs one after another, as a worker would, and print what came of each: `python -m tests.hostile.measured_downloads`.

Standard input: a JSON object with `urls`, `folder` and `settings`. Each line of output: the error's code (`ok` without
one), its message, the bytes left on disk, and by how many bytes the peak of memory was above what was used before.
"""

import json
import sys
from pathlib import Path

import uvloop

from handlers.download import Downloader
from handlers.errors import FileProcessingError
from handlers.settings import MediaSettings


def peak():
    """The most memory that was resident since `forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak():
    """Count the peak from what is resident now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


async def fetch(downloader, url, target):
    forget_peak()
    before = peak()
    try:
        await downloader.fetch(url, target)
        code, said = "ok", ""
    except FileProcessingError as error:
        code, said = error.code, str(error)
    told = {"code": code, "said": said, "size": target.stat().st_size, "growth": peak() - before}
    target.unlink()
    return told


async def main():
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    async with Downloader(MediaSettings(_env_file=None, **asked["settings"])) as downloader:
        for number, url in enumerate(asked["urls"]):
            told = await fetch(downloader, url, folder / str(number))
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
