"""`outlast config`: the effective settings with their origin, and names that are no settings."""

import sys
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.printing import DONE, FAILED, print_json, print_table
from worker.observability.redact import MASK

COLUMNS: Final = ("setting", "value", "origin")


def config(
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are set.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print all settings with their origin, secrets masked. Exit code 1: a setting is invalid or misspelt."""
    from handlers.settings import SettingsError
    from worker.setting_names import unknown_names
    from worker.settings import Settings

    unknown = unknown_names()
    try:
        rows, problem = _rows(Settings.load(), only_changed=changed), ""
    except SettingsError as error:
        rows, problem = [], str(error)
    if as_json:
        names = [{"name": name.name, "place": name.place, "nearest": name.nearest} for name in unknown]
        print_json({"items": rows, "total": len(rows), "unknown": names, "error": problem or None})
    else:
        _print(rows)
        for line in (*map(str, unknown), *filter(None, [problem])):
            sys.stderr.write(f"{line}\n")
    sys.exit(FAILED if problem or any(name.nearest for name in unknown) else DONE)


def _rows(settings: Any, *, only_changed: bool) -> list[dict[str, str]]:  # noqa: ANN401 - Settings is imported late
    from worker.setting_names import origin

    rows = [
        {"setting": name.upper(), "value": _shown(name, getattr(settings, name)), "origin": origin(name)}
        for name in type(settings).model_fields
    ]
    return [row for row in rows if not only_changed or row["origin"] != "default"]


def _shown(name: str, value: object) -> str:
    from worker.cli.init_project import is_secret
    from worker.cli.settings_table import default_text

    if is_secret(name) and value not in {None, ()}:
        return MASK
    if isinstance(value, dict):
        return " ".join(key if number is None else f"{key}={number}" for key, number in value.items())
    return f"{value:g}" if isinstance(value, float) else default_text(value)


def _print(rows: list[dict[str, str]]) -> None:
    """Print a table, on a terminal with folded values."""
    if not sys.stdout.isatty():
        print_table(rows, COLUMNS)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, overflow="fold", style="" if column == "value" else "dim")
    for row in rows:
        table.add_row(*(Text(row[column]) for column in COLUMNS), style="" if row["origin"] == "default" else "bold")
    Console().print(table)
