"""The options of `outlast dead`: list, replay and discard dead letters."""

import sys
from typing import Annotated, Any, TypeVar

import typer

from schemas.dead_letters import BatchRequest, DeadLetterFilter, InvalidFilterError

F = TypeVar("F", bound=DeadLetterFilter)
dead = typer.Typer(help="List, replay or discard dead letters.", no_args_is_help=True)

Ids = Annotated[
    list[str] | None,
    typer.Argument(help="Ids of dead letters, as `list` prints them. None: all that match the filters."),
]
Code = Annotated[str | None, typer.Option(help="Only this error code, e.g. source_gone.")]
Stage = Annotated[str | None, typer.Option(help="Only failures of this pipeline step.")]
Host = Annotated[str | None, typer.Option(help="Only files from this host.")]
Since = Annotated[str | None, typer.Option(help="Only failures at or after this time. ISO 8601, by default UTC.")]
Until = Annotated[str | None, typer.Option(help="Only failures at or before this time.")]
Generation = Annotated[str | None, typer.Option(help="Only this generation.")]
User = Annotated[str | None, typer.Option(help="Only this user.")]
Task = Annotated[str | None, typer.Option(help="Only this task.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number, oldest failures first.")]
Rate = Annotated[str | None, typer.Option(help="Maximum number per second, e.g. 5/s.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print how many match.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dead.command("list")
def list_(
    code: Code = None,
    stage: Stage = None,
    host: Host = None,
    since: Since = None,
    until: Until = None,
    generation: Generation = None,
    user: User = None,
    task: Task = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, oldest failure first. Changes nothing."""
    from worker.cli.dead_run import print_list, run

    filters = _parse(DeadLetterFilter, locals())
    sys.exit(run(lambda service: print_list(service, filters, as_json=as_json)))


@dead.command()
def groups(
    code: Code = None,
    stage: Stage = None,
    host: Host = None,
    since: Since = None,
    until: Until = None,
    generation: Generation = None,
    user: User = None,
    task: Task = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by error code, step and host."""
    from worker.cli.dead_run import print_groups, run

    filters = _parse(DeadLetterFilter, locals())
    sys.exit(run(lambda service: print_groups(service, filters, as_json=as_json)))


@dead.command()
def show(
    item_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter.")], as_json: AsJson = False
) -> None:
    """Print all details of one dead letter."""
    from worker.cli.dead_run import print_item, run

    filters = _parse(DeadLetterFilter, {"ids": item_id})
    sys.exit(run(lambda service: print_item(service, filters.ids[0], as_json=as_json)))


@dead.command()
def replay(
    ids: Ids = None,
    code: Code = None,
    stage: Stage = None,
    host: Host = None,
    since: Since = None,
    until: Until = None,
    generation: Generation = None,
    user: User = None,
    task: Task = None,
    limit: Limit = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish dead letters to their queues again. With FAL_KEY set, expired links are requested again."""
    from worker.cli.dead_run import run, run_batch

    request = _parse(BatchRequest, locals())
    sys.exit(run(lambda service: run_batch(service, "replay", request, yes=yes, as_json=as_json)))


@dead.command()
def discard(
    ids: Ids = None,
    code: Code = None,
    stage: Stage = None,
    host: Host = None,
    since: Since = None,
    until: Until = None,
    generation: Generation = None,
    user: User = None,
    task: Task = None,
    limit: Limit = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Move dead letters to the archive table, which keeps them for DEAD_ARCHIVE_DAYS."""
    from worker.cli.dead_run import run, run_batch

    request = _parse(BatchRequest, locals())
    sys.exit(run(lambda service: run_batch(service, "discard", request, yes=yes, as_json=as_json)))


def _parse(kind: type[F], options: dict[str, Any]) -> F:
    """Parse the filter options. Raise BadParameter (exit code 2), which names the invalid option."""
    values = {name: value for name, value in options.items() if name in kind.model_fields and value is not None}
    try:
        return kind.parse(values)
    except InvalidFilterError as error:
        raise typer.BadParameter(str(error)) from None
