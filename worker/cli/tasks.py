"""The options of `outlast submit`, `status`, `cancel` and `workers`."""

import sys
from typing import Annotated

import typer

from schemas.jobs import DEFAULT_BINDING

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Task = Annotated[str, typer.Argument(help="Task id, as `outlast submit` prints it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show progress until the task has ended.")]


def submit(
    urls: Annotated[list[str], typer.Argument(help="URLs of the files.")],
    user: Annotated[str, typer.Option(help="Id of the user who owns the files.")],
    generation: Annotated[str, typer.Option(help="Id of their generation.")],
    binding: Annotated[str, typer.Option(help="Binding of the generation's table.")] = DEFAULT_BINDING,
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="Quality of lossy images.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Format of stored images: auto, keep, jpeg, webp, avif.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option(help="Variants of the files, as in VARIANTS; an empty text for none.")
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(min=1, max=64, help="Number of files processed at the same time.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option(help="interactive (default), or bulk for tasks that no user waits for.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="Name of the queue, instead of a priority.")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Submit files as a task and print its id. Exit code with --wait: 0 all stored, 3 some, 1 none."""
    from worker.cli.tasks_run import run_submit

    given = {
        "quality": quality,
        "format": format_,
        "variants": variants,
        "max_concurrent": max_concurrent,
        "priority": priority,
        "queue": queue,
    }
    options = {name: value for name, value in given.items() if value is not None}
    sys.exit(run_submit(urls, user, generation, options, binding=binding, wait=wait, as_json=as_json))


def status(task: Task, wait: Wait = False, as_json: AsJson = False) -> None:
    """Print the status of a task. Exit code 1 if the id is unknown; with --wait, 0 all stored, 3 some, 1 none."""
    from worker.cli.tasks_run import run_status

    sys.exit(run_status(task, wait=wait, as_json=as_json))


def cancel(task: Task, as_json: AsJson = False) -> None:
    """Cancel a waiting or running task. Exit code 1 if it has already ended, or if the id is unknown."""
    from worker.cli.tasks_run import run_cancel

    sys.exit(run_cancel(task, as_json=as_json))


def workers(as_json: AsJson = False) -> None:
    """List the workers that reported within the last minute, and the tasks they run."""
    from worker.cli.tasks_run import run_workers

    sys.exit(run_workers(as_json=as_json))
