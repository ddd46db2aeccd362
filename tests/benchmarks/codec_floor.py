"""The minimal cost of the pictures: decode and encode in a plain loop over two processes, nothing else.

`python -m tests.benchmarks.codec_floor FILES... --times N` prints CPU seconds, seconds and files as JSON.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

PROCESSES = 2


def work(paths: Sequence[Path], times: int) -> tuple[float, float, int]:
    """Decode and encode every file `times` times; return CPU seconds without start-up, seconds and files."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips  # noqa: PLC0415 - reads its environment on import

    pyvips.cache_set_max(0)

    def one(path: Path) -> None:
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="warning")
        image.jpegsave(f"/dev/shm/outlast-floor-{os.getpid()}", Q=85, keep="none")  # noqa: S108 - memory, as TEMP_DIR may be

    for path in paths:
        one(path)
    began, used = time.monotonic(), time.process_time()
    for _ in range(times):
        for path in paths:
            one(path)
    Path(f"/dev/shm/outlast-floor-{os.getpid()}").unlink(missing_ok=True)  # noqa: S108 - the same
    return time.process_time() - used, time.monotonic() - began, times * len(paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(work, options.files, options.times) for _ in range(PROCESSES)]
        ends = [each.result() for each in running]
    cpu, seconds, files = sum(end[0] for end in ends), max(end[1] for end in ends), sum(end[2] for end in ends)
    sys.stdout.write(json.dumps({"cpu": cpu, "seconds": seconds, "files": files}) + "\n")


if __name__ == "__main__":
    main()
