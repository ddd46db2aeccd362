"""`outlast config`: the effective settings with their origin, and names that are no settings."""

import sys
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from handlers.settings import SettingsError
from worker.cli.init_project import is_secret
from worker.cli.printing import DONE, FAILED, print_json, print_table
from worker.cli.settings_table import default_text
from worker.observability.redact import MASK
from worker.setting_names import origin, unknown_names
from worker.settings import Settings

COLUMNS: Final = ("setting", "value", "origin")


def run_config(*, only_changed: bool, as_json: bool) -> int:
    """Print all settings, or those that are set, with their origin. Return 1 if one is invalid or misspelt, else 0."""
    unknown = unknown_names()
    try:
        rows, problem = _rows(Settings.load(), only_changed=only_changed), ""
    except SettingsError as error:
        rows, problem = [], str(error)
    if as_json:
        names = [{"name": name.name, "place": name.place, "nearest": name.nearest} for name in unknown]
        print_json({"items": rows, "total": len(rows), "unknown": names, "error": problem or None})
    else:
        _print(rows)
        for line in (*map(str, unknown), *filter(None, [problem])):
            sys.stderr.write(f"{line}\n")
    return FAILED if problem or any(name.nearest for name in unknown) else DONE


def _rows(settings: Settings, *, only_changed: bool) -> list[dict[str, str]]:
    rows = [
        {"setting": name.upper(), "value": _shown(name, getattr(settings, name)), "origin": origin(name)}
        for name in type(settings).model_fields
    ]
    return [row for row in rows if not only_changed or row["origin"] != "default"]


def _shown(name: str, value: object) -> str:
    if is_secret(name) and value not in {None, ()}:
        return MASK
    if isinstance(value, dict):
        return " ".join(key if number is None else f"{key}={number}" for key, number in value.items())
    return f"{value:g}" if isinstance(value, float) else default_text(value)


def _print(rows: list[dict[str, str]]) -> None:
    """Print a table. On a terminal, long values are wrapped."""
    if not sys.stdout.isatty():
        print_table(rows, COLUMNS)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, overflow="fold", style="" if column == "value" else "dim")
    for row in rows:
        table.add_row(*(Text(row[column]) for column in COLUMNS), style="" if row["origin"] == "default" else "bold")
    Console().print(table)
