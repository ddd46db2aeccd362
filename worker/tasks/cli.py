"""`outlast submit`, `status`, `cancel`, `workers`."""

import sys
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Task = Annotated[str, typer.Argument(help="The task's id, as `submit` prints it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show progress until the task has ended.")]


def submit(
    urls: Annotated[list[str], typer.Argument(help="Where the files are.")],
    user: Annotated[str, typer.Option(help="The user who owns them.")],
    generation: Annotated[str, typer.Option(help="The generation they belong to.")],
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="Quality of lossy images.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="What images become: auto, keep, jpeg, webp, avif.")
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, max=64, help="Files in work at once.")] = None,
    priority: Annotated[str | None, typer.Option(help="interactive, or bulk for what nobody waits for.")] = None,
    queue: Annotated[str | None, typer.Option(help="The queue itself, instead of a priority.")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Queue files for the workers and print the task's id; with --wait, exit 0 done, 1 failed, 3 partly done."""
    from worker.tasks.commands import run_submit

    given = {
        "quality": quality,
        "format": format_,
        "max_concurrent": max_concurrent,
        "priority": priority,
        "queue": queue,
    }
    options = {name: value for name, value in given.items() if value is not None}
    sys.exit(run_submit(urls, user, generation, options, wait=wait, as_json=as_json))


def status(task: Task, wait: Wait = False, as_json: AsJson = False) -> None:
    """Say how a task is; exit 1 when there is none of that name."""
    from worker.tasks.commands import run_status

    sys.exit(run_status(task, wait=wait, as_json=as_json))


def cancel(task: Task, as_json: AsJson = False) -> None:
    """Cancel a task that waits or runs; exit 1 when it has ended already."""
    from worker.tasks.commands import run_cancel

    sys.exit(run_cancel(task, as_json=as_json))


def workers(as_json: AsJson = False) -> None:
    """List the workers heard of within a minute, and what they run."""
    from worker.tasks.commands import run_workers

    sys.exit(run_workers(as_json=as_json))
