"""The options of `outlast optimize`. `worker.cli.optimize_run` runs it."""

import asyncio
import sys
from typing import Annotated

import typer

from worker.cli.moments import FORMS, read_since


def optimize(
    since: Annotated[str | None, typer.Option(help=f"Only files stored at or after this time: {FORMS}")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Target profile of images, e.g. webp-q80-strip. Default: from the settings.")
    ] = None,
    variants: Annotated[
        bool,
        typer.Option(
            "--variants", help="Only make the variants named by VARIANTS or the binding, of files that have other ones."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many objects are affected.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compress stored images again where that makes them smaller, merge duplicates, remove unreferenced objects."""
    from worker.cli.optimize_run import optimize_once, vary_once
    from worker.periodic.optimize import read_profile

    try:
        target = None if profile is None else read_profile(profile)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if variants:
        if target is not None:
            raise typer.BadParameter("--variants does not compress images again: leave out --profile")
        sys.exit(asyncio.run(vary_once(read_since(since), dry_run=dry_run, yes=yes, as_json=as_json)))
    sys.exit(asyncio.run(optimize_once(read_since(since), target, dry_run=dry_run, yes=yes, as_json=as_json)))
