"""The options of `outlast adopt`."""

import sys
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from schemas.dead_letters import Rate
from schemas.jobs import DEFAULT_BINDING, BindingName
from schemas.moments import Timestamp
from worker.cli.moments import FORMS


def adopt(
    binding: Annotated[str, typer.Option(help="The binding whose generations are stored.")] = DEFAULT_BINDING,
    since: Annotated[str | None, typer.Option(help=f"Only generations created at or after this time: {FORMS}")] = None,
    until: Annotated[str | None, typer.Option(help="Only generations created at or before this time.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of generations, oldest first.")] = None,
    rate: Annotated[str | None, typer.Option(help="Maximum number of generations per second, e.g. 5/s.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count and estimate.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Store the files of generations that are older than the installation. If interrupted, run it again to continue.

    Dead links are counted and marked on the rows; they do not become dead letters. Exit code 3: interrupted, or some
    tasks wait for a retry.
    """
    from worker.cli.adopt.past import PastSelection
    from worker.cli.adopt.run import run_adopt

    selection = PastSelection(
        since=_parse("--since", Timestamp, since),
        until=_parse("--until", Timestamp, until),
        limit=limit,
        rate=_parse("--rate", Rate, rate),
        binding=_parse("--binding", BindingName, binding),
    )
    sys.exit(run_adopt(selection, dry_run=dry_run, yes=yes, as_json=as_json))


def _parse(option: str, kind: Any, text: str | None) -> Any:  # noqa: ANN401 - a type, and its value
    """Return an option's value. Raise BadParameter (exit code 2), which names the option."""
    if text is None:
        return None
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(f"{option}: {problem}") from None
