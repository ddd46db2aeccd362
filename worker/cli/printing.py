"""Output of the commands: tables and progress bars on a terminal, otherwise plain lines or JSON. And exit codes."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from schemas.urls import printable_name

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PARTLY: Final = 3
"""The exit codes: done, failed, usage error, partly done."""
MAX_WIDTH: Final = 1000
"""Maximum width of a table, in characters."""
LINE_SECONDS: Final = 2.0
"""Time between two progress lines."""

ProgressCallback = Callable[[int, int], None]
"""Called with (items completed, total)."""


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, which gets a plural s: `1 dead letter`, `2 dead letters`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(value: object) -> None:
    """Print one line of JSON to standard output."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_items(items: Sequence[Mapping[str, Any]], total: int | None = None) -> None:
    """Print a list as JSON: `{"items": [...], "total": n}`. `total` is given if only a part is listed."""
    print_json({"items": list(items), "total": len(items) if total is None else total})


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, wide: bool = False) -> None:
    """Print to standard output: a table on a terminal, otherwise a header and one line per row, separated by tabs.

    On a terminal that is too narrow for the table, each row is a block of lines, or, with `wide`, a table that is wider
    than the terminal.
    """
    if not sys.stdout.isatty():
        lines = ["\t".join(columns), *("\t".join(_cell(row[column]) for column in columns) for row in rows)]
        sys.stdout.write("\n".join(lines) + "\n")
        return
    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    console = Console()
    width = console.measure(table, options=console.options.update(width=MAX_WIDTH)).maximum
    if wide or width <= console.width:
        Console(width=max(width, console.width)).print(table, soft_wrap=True)
    else:
        console.print(Group(*(_block(row, columns) for row in rows)))


def _block(row: Mapping[str, Any], columns: Sequence[str]) -> Group:
    """Return a row as a line with its first value, and indented lines with the others, those without a value left out.

    The last column has lines of its own, because it is a text such as an error.
    """
    first, *middle, last = columns
    named = [f"{name.replace('_', ' ')} {_cell(row[name])}" for name in middle if _cell(row[name])]
    lines = [Text(", ".join(named)), Text(_cell(row[last]))]
    return Group(Text(_cell(row[first]), style="bold"), *(Padding(line, (0, 0, 0, 2)) for line in lines if line))


def progress_bar(*, hidden: bool = False) -> Progress:
    """Return a progress bar on standard error. It shows nothing if `hidden`, or if that is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=hidden or not sys.stderr.isatty(),
    )


@contextlib.contextmanager
def show_progress(verb: str) -> Iterator[ProgressCallback]:
    """Show progress on standard error: a bar on a terminal, otherwise a line every two seconds.

    `verb` describes a finished item, such as `replayed`.
    """
    if not sys.stderr.isatty():
        yield _progress_lines(verb)
        return
    with progress_bar() as bar:
        task = bar.add_task(verb, total=None)
        yield lambda completed, total: bar.update(task, completed=completed, total=total)


def _progress_lines(verb: str) -> ProgressCallback:
    printed_at = 0.0

    def report(completed: int, total: int) -> None:
        nonlocal printed_at
        if completed == total or time.monotonic() - printed_at >= LINE_SECONDS:
            printed_at = time.monotonic()
            sys.stderr.write(f"{completed} of {total} {verb} or kept\n")

    return report


def _cell(value: object) -> str:
    return "" if value is None else printable_name(str(value))
