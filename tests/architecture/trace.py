"""Traces a webhook through receiver, worker and codec process of a local stack: which project files do they enter?

    python -m tests.architecture.trace [name of a sample]

prints the files of each process in the order of first entry, and how often each is entered from another file.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from deploy.local.project import Project
from deploy.local.stack import Stack

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"
SAMPLE = "photo.png"
LATE_SECONDS = 1
"""The source sends the body later than the database answers that the job is to be run, as is usual."""
PROCESSES = ("receiver", "worker", "codec")
LIMIT_SECONDS = 240


class Entry(NamedTuple):
    """A process entered a file, coming from another file. `moment` is in nanoseconds of the monotonic clock."""

    moment: int
    process: str
    file: str


async def trace(folder: Path, sample: str = SAMPLE) -> list[Entry]:
    """Run a stack in `folder`; return what the webhook of a generation with one file entered, in order.

    Another webhook comes first and is not traced: it opens connections and starts the codec process.
    """
    records = folder / "trace"
    records.mkdir()
    with hooked(records):
        async with Stack(folder / "stack", workers=1) as stack, Project(stack.endpoints) as project:
            await complete(stack, project, sample, 1)
            began = time.monotonic_ns()
            await complete(stack, project, sample, 2)
            ended = time.monotonic_ns()
    entries = sorted(entry for record in records.iterdir() for entry in read(record))
    return [entry for entry in entries if began <= entry.moment <= ended]


@contextlib.contextmanager
def hooked(records: Path) -> Iterator[None]:
    """Have the hook loaded by the Python processes that are started meanwhile."""
    hook = records.with_name("hook")
    shutil.copytree(HOOK, hook)
    (hook / "root").write_text(str(ROOT))
    (hook / "records").write_text(str(records))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(hook), *filter(None, [before])])
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


async def complete(stack: Stack, project: Project, sample: str, attempts: int) -> None:
    """Complete a generation of a new user, and wait until the worker has ended this many attempts."""
    row = {"id": str(uuid4()), "user_id": str(uuid4()), "status": "processing"}
    await project.insert("generations", row)
    output = stack.source.output([sample], late=LATE_SECONDS)
    change = {"status": "completed", "output": output}
    await project.update("generations", f"id=eq.{row['id']}", change)
    log = stack.workers[0].log
    async with asyncio.timeout(LIMIT_SECONDS):
        while log.read_text().count('"attempt ended"') < attempts:
            await asyncio.sleep(0.1)
    (task,) = await project.select("outlast_tasks", f"generation_id=eq.{row['id']}&select=status")
    if task["status"] != "completed":
        raise RuntimeError(f"the traced task ended as {task['status']}, not as completed; see {log}")


def read(record: Path) -> Iterator[Entry]:
    """Yield the entries of a record. Forked processes write to the record of the server they are forked from."""
    owner, process = record.name.split(".", 1)
    for line in record.read_text().splitlines():
        moment, pid, file = line.split(" ", 2)
        if process in PROCESSES and (process == "codec") == (pid != owner):
            yield Entry(int(moment), process, file)


def first_entries(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return each process and file once, in the order of first entry."""
    return list(dict.fromkeys((entry.process, entry.file) for entry in entries))


def report(entries: Sequence[Entry]) -> str:
    """Describe a trace for people."""
    lines = [f"{len({entry.file for entry in entries})} files in all processes"]
    for process in PROCESSES:
        files = [file for file, _ in itertools.groupby(entry.file for entry in entries if entry.process == process)]
        again = sum(files.count(file) > 1 for file in set(files))
        lines.append(f"\n{process}: {len(set(files))} files, {again} of them entered more than once")
        lines += [f"{files.count(file):4} x  {file}" for file in dict.fromkeys(files)]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.stdout.write(report(asyncio.run(trace(Path(temporary), *sys.argv[1:]))) + "\n")
