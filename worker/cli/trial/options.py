"""The options of `outlast try`."""

import json
import sys
from typing import Annotated, Any

import typer

from schemas.jobs import DEFAULT_BINDING


def try_(
    binding: Annotated[str, typer.Option(help="The binding that is tried.")] = DEFAULT_BINDING,
    via: Annotated[
        str,
        typer.Option(help="row: insert a row; webhook: send a signed webhook; auto: a row if the table accepts it."),
    ] = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="COLUMN=VALUE", help="Value of a column of the row, text or JSON. Repeatable."),
    ] = None,
    receiver_url: Annotated[
        str | None, typer.Option(help="URL of the receiver. Default: the one in the database, or this machine's.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for each step.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send one test generation through the set-up, follow it to the stored bytes, and remove it.

    Prints each step; exit code 1 with the step at which it stopped, and the remedy.
    """
    from worker.cli.trial.run import run_try
    from worker.cli.trial.steps import TrialOptions

    if via not in {"auto", "row", "webhook"}:
        raise typer.BadParameter(f"--via: {via!r} is not auto, row or webhook")
    values = dict(_pair(text) for text in set_ or ())
    sys.exit(run_try(TrialOptions(via, values, receiver_url, timeout, binding), as_json=as_json))  # type: ignore[arg-type]


def _pair(text: str) -> tuple[str, Any]:
    """Return column and value; a value that is not JSON is a text. Raises BadParameter."""
    column, separator, value = text.partition("=")
    if not column or not separator:
        raise typer.BadParameter(f"--set: {text!r} is not COLUMN=VALUE")
    try:
        return column, json.loads(value)
    except ValueError:
        return column, value
