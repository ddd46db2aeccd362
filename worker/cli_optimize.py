"""`outlast optimize`: its options; `worker.optimize_once` does it."""

import asyncio
import sys
from typing import Annotated

import typer


def optimize(
    since: Annotated[str | None, typer.Option(help="Only what was stored since; ISO 8601, UTC unless it says.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="How images are to be stored, e.g. webp-q80-strip; else as the settings say.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be looked at.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Re-compress stored images where that makes them smaller, make duplicates one, and remove orphans."""
    from worker.optimize import read_profile
    from worker.optimize_once import optimize_once, read_since

    try:
        wanted = None if profile is None else read_profile(profile)
        moment = None if since is None else read_since(since)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    sys.exit(asyncio.run(optimize_once(moment, wanted, dry_run=dry_run, yes=yes, as_json=as_json)))
