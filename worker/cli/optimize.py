"""The options of `outlast optimize`. `worker.cli.optimize_run` runs it."""

import asyncio
import sys
from typing import Annotated

import typer


def optimize(
    since: Annotated[
        str | None, typer.Option(help="Only files stored at or after this time. ISO 8601, by default UTC.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Target profile of images, e.g. webp-q80-strip. Default: from the settings.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many objects are affected.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compress stored images again where that makes them smaller, merge duplicates, remove unreferenced objects."""
    from worker.cli.optimize_run import optimize_once, read_since
    from worker.periodic.optimize import read_profile

    try:
        target = None if profile is None else read_profile(profile)
        moment = None if since is None else read_since(since)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    sys.exit(asyncio.run(optimize_once(moment, target, dry_run=dry_run, yes=yes, as_json=as_json)))
