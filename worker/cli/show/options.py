"""The options of `outlast config` and `outlast sources`."""

import sys
from typing import Annotated

import typer

from worker.cli.moments import FORMS, read_since

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config(
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are set.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print all settings with their origin, secrets masked. Exit code 1: a setting is invalid or misspelt."""
    from worker.cli.show.config_run import run_config

    sys.exit(run_config(only_changed=changed, as_json=as_json))


def sources(
    since: Annotated[
        str | None, typer.Option(help=f"Tasks that ended at or after this time (default: 24h): {FORMS}")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the ten hosts with the most files, how many of them failed, and why."""
    from worker.cli.show.sources_run import run_sources

    run_sources(read_since(since), as_json=as_json)
