"""`outlast dead`: look at what failed for good, put it back to work, or throw it away."""

import sys
from typing import Annotated, Any, TypeVar

import typer

from schemas.dead_letters import Choice, Errand, UnreadableChoiceError

C = TypeVar("C", bound=Choice)
dead = typer.Typer(help="Look at dead letters, put them back to work, or archive them.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of letters, as `list` prints them; none: all that match.")]
Code = Annotated[str | None, typer.Option(help="Only this error code, e.g. source_gone.")]
Stage = Annotated[str | None, typer.Option(help="Only what this step gave up.")]
Host = Annotated[str | None, typer.Option(help="Only files of this host.")]
Since = Annotated[str | None, typer.Option(help="Only what failed at or after; ISO 8601, UTC unless it says.")]
Until = Annotated[str | None, typer.Option(help="Only what failed at or before.")]
Generation = Annotated[str | None, typer.Option(help="Only this generation's.")]
User = Annotated[str | None, typer.Option(help="Only this user's.")]
Task = Annotated[str | None, typer.Option(help="Only this task's.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest failures first.")]
Rate = Annotated[str | None, typer.Option(help="At most so many a second, e.g. 5/s.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many match.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


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
    """List dead letters, the oldest failure first; none is changed by it."""
    from worker.dead.commands import print_list, run

    choice = _read(Choice, locals())
    sys.exit(run(lambda desk: print_list(desk, choice, as_json=as_json)))


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
    """Count dead letters that failed alike, by code, step and host."""
    from worker.dead.commands import print_groups, run

    choice = _read(Choice, locals())
    sys.exit(run(lambda desk: print_groups(desk, choice, as_json=as_json)))


@dead.command()
def show(name: Annotated[str, typer.Argument(metavar="ID", help="The letter's id.")], as_json: AsJson = False) -> None:
    """Print everything known of one letter."""
    from worker.dead.commands import print_one, run

    choice = _read(Choice, {"ids": name})
    sys.exit(run(lambda desk: print_one(desk, choice.ids[0], as_json=as_json)))


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
    """Put letters back on their queues; files that were gone are looked for again, at FAL too where FAL_KEY is set."""
    from worker.dead.commands import remove, run

    errand = _read(Errand, locals())
    sys.exit(run(lambda desk: remove(desk, "replay", errand, yes=yes, as_json=as_json)))


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
    """Move letters to the archive table, where they stay for DEAD_ARCHIVE_DAYS."""
    from worker.dead.commands import remove, run

    errand = _read(Errand, locals())
    sys.exit(run(lambda desk: remove(desk, "discard", errand, yes=yes, as_json=as_json)))


def _read(kind: type[C], given: dict[str, Any]) -> C:
    """Read the options that are filters; raise BadParameter, which names the option and ends with exit code 2."""
    values = {name: value for name, value in given.items() if name in kind.model_fields and value is not None}
    try:
        return kind.read(values)
    except UnreadableChoiceError as error:
        raise typer.BadParameter(str(error)) from None
