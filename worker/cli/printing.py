"""Output of the commands: tables and bars on a terminal, plain lines or JSON elsewhere. And their exit codes."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from schemas.urls import printable

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PARTLY: Final = 3
WHOLE: Final = frozenset({"id", "count", "code", "task_id", "status"})
"""Columns whose values are never wrapped."""


def print_json(answer: object) -> None:
    """Print one line of JSON to standard output."""
    sys.stdout.write(json.dumps(answer) + "\n")


def print_items(items: Sequence[Mapping[str, Any]]) -> None:
    """Print a list as JSON: `{"items": [...], "total": n}`."""
    print_json({"items": list(items), "total": len(items)})


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print to standard output: a table on a terminal, otherwise a header and one line per row, separated by tabs."""
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


def progress_bar(*, hidden: bool = False) -> Progress:
    """Return a progress bar on standard error. It shows nothing if that is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=hidden or not sys.stderr.isatty(),
    )


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))
