"""`outlast up`: the local stack in the foreground."""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from yarl import URL

from deploy.local.processes import RunningError, StackError
from deploy.local.saved_state import ENDPOINTS, remove_endpoints, save_endpoints, saved_endpoints
from deploy.local.signals import run_until_signal
from deploy.local.stack import Stack

SUPERVISE_SECONDS = 0.5
HIDDEN_FIELDS = {"service_role_key", "anon_key", "jwt_secret", "webhook_secret", "api_token", "console_token"}


async def run_up(data_dir: Path, *, workers: int, port: int | None, as_json: bool) -> int:
    """Start the stack, print its addresses, run until a signal, stop it. Returns the exit code.

    With `as_json`, a stack that runs already in this folder is not an error: its addresses are printed.
    """
    console = Console(stderr=True)
    try:
        return await run_until_signal(_serve(data_dir, workers, port, console, as_json=as_json), exit_code=0)
    except StackError as error:
        if as_json and isinstance(error, RunningError) and (line := saved_endpoints(data_dir)):
            sys.stdout.write(line)
            return 0
        console.print(f"outlast: {error}", style="red", markup=False)
        return 1


async def _serve(data_dir: Path, workers: int, port: int | None, console: Console, *, as_json: bool) -> int:
    def report(step: str) -> None:
        console.print(step, style="dim", markup=False)

    async with Stack(data_dir, workers=workers, port=port, report=report) as stack:
        line = json.dumps(asdict(stack.endpoints)) + "\n"
        if as_json:
            sys.stdout.write(line)
            sys.stdout.flush()
        else:
            _show(stack, console)
        try:
            while True:
                save_endpoints(stack.data_dir, line)
                await asyncio.sleep(SUPERVISE_SECONDS)
                await stack.supervise()
                line = json.dumps(asdict(stack.endpoints)) + "\n"
        finally:
            with suppress(OSError):
                remove_endpoints(stack.data_dir)


def _show(stack: Stack, console: Console) -> None:
    table = Table("part", "address", title="Outlast is running; press Ctrl-C to stop it")
    for name, value in asdict(stack.endpoints).items():
        if name not in HIDDEN_FIELDS:
            table.add_row(name, "\n".join(value) if isinstance(value, list) else _without_password(value))
    console.print(table)
    link = URL(stack.endpoints.console_url).joinpath("sign-in").with_query(token=stack.endpoints.console_token)
    console.print(f"Open the console: {link}", markup=False, soft_wrap=True)
    console.print(
        f"Keys and secrets are in {stack.data_dir / ENDPOINTS}, logs in {stack.data_dir / 'log'}.", markup=False
    )


def _without_password(url: str) -> str:
    parsed = URL(url)
    return str(parsed.with_password("...")) if parsed.password else url
