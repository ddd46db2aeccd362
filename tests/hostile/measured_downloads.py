"""Fetches URLs one after another and prints the result of each: `python -m tests.hostile.measured_downloads`.

Standard input: a JSON object with `urls`, `folder` and `settings`. Each line of output: the error's code (`ok` without
an error), its message, the file's size in bytes, and the growth of memory in bytes (peak minus use before).
"""

import json
import sys
from pathlib import Path

import uvloop

from handlers.download import Downloader
from handlers.errors import FileProcessingError
from handlers.settings import MediaSettings


def peak_memory():
    """Return the largest resident memory since `reset_peak_memory`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def reset_peak_memory():
    """Set the peak to the memory that is resident now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


async def fetch(downloader, url, target):
    reset_peak_memory()
    before = peak_memory()
    try:
        await downloader.fetch(url, target)
        code, message = "ok", ""
    except FileProcessingError as error:
        code, message = error.code, str(error)
    result = {"code": code, "message": message, "size": target.stat().st_size, "growth": peak_memory() - before}
    target.unlink()
    return result


async def main():
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    async with Downloader(MediaSettings(_env_file=None, **request["settings"])) as downloader:
        for number, url in enumerate(request["urls"]):
            result = await fetch(downloader, url, folder / str(number))
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
