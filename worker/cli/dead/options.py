"""The options of `outlast dead`: list, replay and discard dead letters."""

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import typer

from schemas.dead_letters import BatchRequest, DeadLetterFilter, InvalidFilterError
from worker.cli.moments import FORMS

F = TypeVar("F", bound=DeadLetterFilter)
dead = typer.Typer(help="List, replay or discard dead letters.", no_args_is_help=True)

Ids = Annotated[
    list[str] | None,
    typer.Argument(help="Ids of dead letters, as `list` prints them. Without ids: all that match the filters."),
]
FILTERS: Final[dict[str, Any]] = {
    "code": Annotated[str | None, typer.Option(help="Only this error code, e.g. source_gone.")],
    "stage": Annotated[str | None, typer.Option(help="Only failures of this pipeline step.")],
    "host": Annotated[str | None, typer.Option(help="Only files from this host.")],
    "since": Annotated[str | None, typer.Option(help=f"Only failures at or after this time: {FORMS}")],
    "until": Annotated[str | None, typer.Option(help="Only failures at or before this time.")],
    "binding": Annotated[str | None, typer.Option(help="Only generations of this binding.")],
    "generation": Annotated[str | None, typer.Option(help="Only this generation.")],
    "user": Annotated[str | None, typer.Option(help="Only this user.")],
    "task": Annotated[str | None, typer.Option(help="Only this task.")],
    "limit": Annotated[int | None, typer.Option(min=1, help="Maximum number, oldest failures first.")],
}
"""The options that choose dead letters, the same for all commands."""
Rate = Annotated[str | None, typer.Option(help="Maximum number per second, e.g. 5/s.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print how many match.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the replayed tasks have ended, then print the result.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print a table even if it is wider than the terminal.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of FILTERS, before its own. Their values are further keyword arguments."""
    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "filters"]
    kind = inspect.Parameter.KEYWORD_ONLY
    named = [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in FILTERS.items()]
    parameters = [*named, *(parameter.replace(kind=kind) for parameter in own)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # read by Typer
    command.__annotations__ = FILTERS | {parameter.name: parameter.annotation for parameter in own}
    return command


@dead.command("list")
@filtered
def list_(wide: Wide = False, as_json: AsJson = False, **filters: Any) -> None:  # noqa: ANN401 - texts and numbers
    """List dead letters, oldest failure first. Changes nothing."""
    from worker.cli.dead.run import print_list, run

    chosen = _parse(DeadLetterFilter, filters)
    sys.exit(run(lambda service: print_list(service, chosen, wide=wide, as_json=as_json)))


@dead.command()
@filtered
def groups(wide: Wide = False, as_json: AsJson = False, **filters: Any) -> None:  # noqa: ANN401 - as for list
    """Count dead letters by error code, step and host."""
    from worker.cli.dead.run import print_groups, run

    chosen = _parse(DeadLetterFilter, filters)
    sys.exit(run(lambda service: print_groups(service, chosen, wide=wide, as_json=as_json)))


@dead.command()
def show(
    item_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter.")], as_json: AsJson = False
) -> None:
    """Print all details of one dead letter."""
    from worker.cli.dead.run import print_item, run

    filters = _parse(DeadLetterFilter, {"ids": item_id})
    sys.exit(run(lambda service: print_item(service, filters.ids[0], as_json=as_json)))


@dead.command()
@filtered
def replay(
    ids: Ids = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    as_json: AsJson = False,
    **filters: Any,  # noqa: ANN401 - as for list
) -> None:
    """Publish dead letters to their queues again. With FAL_KEY set, expired links are requested again."""
    from worker.cli.dead.run import run, run_batch

    request = _parse(BatchRequest, filters | {"ids": ids, "rate": rate, "dry_run": dry_run})
    sys.exit(run(lambda service: run_batch(service, "replay", request, yes=yes, wait=wait, as_json=as_json)))


@dead.command()
@filtered
def discard(
    ids: Ids = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    **filters: Any,  # noqa: ANN401 - as for list
) -> None:
    """Move dead letters to the archive table, which keeps them for DEAD_ARCHIVE_DAYS."""
    from worker.cli.dead.run import run, run_batch

    request = _parse(BatchRequest, filters | {"ids": ids, "rate": rate, "dry_run": dry_run})
    sys.exit(run(lambda service: run_batch(service, "discard", request, yes=yes, as_json=as_json)))


def _parse(kind: type[F], options: dict[str, Any]) -> F:
    """Parse the filter options. Raise BadParameter (exit code 2), which names the invalid option."""
    values = {name: value for name, value in options.items() if name in kind.model_fields and value is not None}
    try:
        return kind.parse(values)
    except InvalidFilterError as error:
        raise typer.BadParameter(str(error)) from None
