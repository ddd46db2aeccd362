"""Tables and progress for `outlast dead`: rich on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from schemas.urls import printable
from worker.dead.removal import Progress as Report

LINE_SECONDS: Final = 2.0
"""Between two lines of progress where there is no bar."""
WHOLE: Final = frozenset({"id", "count", "code"})
"""Columns that are never cut short."""


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print to standard output: a table on a terminal, else a head line and a line each, separated by tabs."""
    if not sys.stdout.isatty():
        lines = ["\t".join(columns), *("\t".join(_cell(row[column]) for column in columns) for row in rows)]
        sys.stdout.write("\n".join(lines) + "\n")
        return
    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=column in WHOLE, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    Console().print(table)


@contextlib.contextmanager
def follow(done: str) -> Iterator[Report]:
    """Show progress on standard error while the context lasts."""
    if not sys.stderr.isatty():
        yield _lines(done)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with bar:
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


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))
