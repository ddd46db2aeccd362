"""`outlast up`: the local stack in the foreground."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from yarl import URL

from deploy.local.processes import StackError
from deploy.local.signals import until_told
from deploy.local.stack import Stack

WATCH_SECONDS = 0.5
UNSHOWN = {"service_role_key", "anon_key", "jwt_secret", "webhook_secret", "api_token", "console_token"}


async def run_up(data_dir: Path, *, workers: int, port: int | None, as_json: bool) -> int:
    """Start everything, say where it is, run until told to stop, stop everything. Returns the exit code."""
    console = Console(stderr=True)
    try:
        return await until_told(_serve(data_dir, workers, port, console, as_json=as_json), told=0)
    except StackError as error:
        console.print(f"outlast: {error}", style="red", markup=False)
        return 1


async def _serve(data_dir: Path, workers: int, port: int | None, console: Console, *, as_json: bool) -> int:
    def say(step: str) -> None:
        console.print(step, style="dim", markup=False)

    async with Stack(data_dir, workers=workers, port=port, say=say) as stack:
        if as_json:
            sys.stdout.write(json.dumps(asdict(stack.endpoints)) + "\n")
            sys.stdout.flush()
        else:
            _show(stack, console)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await stack.watch()


def _show(stack: Stack, console: Console) -> None:
    table = Table("what", "where", title="Outlast is up; Ctrl-C stops it")
    for name, value in asdict(stack.endpoints).items():
        if name not in UNSHOWN:
            table.add_row(name, "\n".join(value) if isinstance(value, list) else _without_password(value))
    console.print(table)
    console.print(f"Keys and secrets: outlast up --json. Logs: {stack.data_dir / 'log'}", markup=False)


def _without_password(url: str) -> str:
    parsed = URL(url)
    return str(parsed.with_password("...")) if parsed.password else url
