"""Progress of long commands: a bar on a terminal, otherwise a line every two seconds."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final

from worker.cli.printing import progress_bar
from worker.dead_letters.batch import Progress as Report

LINE_SECONDS: Final = 2.0
"""Time between two progress lines."""


@contextlib.contextmanager
def follow(done: str) -> Iterator[Report]:
    """Show progress on standard error within the context. `done` is the verb of a finished item, such as `replayed`."""
    if not sys.stderr.isatty():
        yield _lines(done)
        return
    with progress_bar() as bar:
        task = bar.add_task(done, total=None)
        yield lambda completed, total: bar.update(task, completed=completed, total=total)


def _lines(done: str) -> Report:
    said = 0.0

    def report(completed: int, total: int) -> None:
        nonlocal said
        if completed == total or time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            sys.stderr.write(f"{completed} of {total} {done} or kept\n")

    return report
