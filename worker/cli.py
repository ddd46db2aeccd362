"""The `outlast` command. Each command says what went wrong and what to do.

Exit codes: 0 done, 1 failed, 2 usage, 3 partly done.

Commands import what they need when they run, so that `--help` is quick and a receiver loads no decoder.
"""

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from handlers.errors import FileProcessingError
from handlers.settings import SettingsError
from worker.cli_optimize import optimize
from worker.cli_setup import doctor, init
from worker.dead.cli import dead
from worker.tasks.cli import cancel, status, submit, workers

app = typer.Typer(
    name="outlast",
    help="Brings FAL's expiring media home to Supabase Storage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(init)
app.command()(doctor)
app.add_typer(dead, name="dead")
app.command()(optimize)

DataDir = Annotated[Path, typer.Option(help="Where the local stack keeps everything.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LOCAL_MODULES: Final = frozenset({"asyncpg", "psutil"})
ISO: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%d %H:%M:%S"]
DEFAULT_DATA_DIR = Path(".outlast")


@app.command()
def receiver() -> None:
    """Take webhooks and put jobs on the queue. Configured by environment alone."""
    import worker.receiver  # noqa: F401 - what is loaded now is spared
    from worker.app import receive
    from worker.logs import configure
    from worker.process import run, spare_collector
    from worker.settings import Settings

    settings = Settings.load().for_receiver()
    configure(settings)
    spare_collector()
    run(lambda stop: receive(settings, stop))


@app.command()
def worker(
    queues: Annotated[
        str | None, typer.Option(help="Queues to take from instead of WORKER_QUEUES: file_processing=8,maintenance")
    ] = None,
) -> None:
    """Take jobs off the queue and bring their files home. Configured by environment alone."""
    from worker.app import work
    from worker.logs import configure
    from worker.process import run, spare_collector
    from worker.settings import Settings

    settings = Settings.load(**({} if queues is None else {"worker_queues": queues})).for_worker()
    configure(settings)
    spare_collector()
    run(lambda stop: work(settings, stop))


@app.command()
def process(
    urls: Annotated[list[str], typer.Argument(help="Where the files are.")],
    user: Annotated[str | None, typer.Option(help="The user who owns them.")] = None,
    generation: Annotated[str | None, typer.Option(help="The generation they belong to; else a new id.")] = None,
    out: Annotated[Path | None, typer.Option(help="Store in this folder instead of Supabase.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline once, without a broker."""
    from worker.once import process_once

    sys.exit(asyncio.run(process_once(urls, user, generation, out, as_json=as_json)))


for command in (submit, status, cancel, workers):
    app.command()(command)


@app.command()
def reconcile(
    since: Annotated[
        datetime | None, typer.Option(formats=ISO, help="Only what was created since; ISO 8601, UTC unless it says.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue completed generations that have no media, and tasks that stand still."""
    from worker.reconcile_once import reconcile_once

    sys.exit(asyncio.run(reconcile_once(since, dry_run=dry_run, as_json=as_json)))


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=0, max=64, help="How many workers to start.")] = 1,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The receiver's port; else 8080 or a free one.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Run the whole local stack in the foreground; Ctrl-C stops all of it."""
    from deploy.local.up import run_up

    sys.exit(asyncio.run(run_up(data_dir, workers=workers, port=port, as_json=as_json)))


@app.command()
def demo(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Start the local stack, send real generations through it, show what landed, stop."""
    from deploy.local.demo import run_demo

    sys.exit(asyncio.run(run_demo(data_dir, as_json=as_json)))


def main() -> None:
    """Run the command; turn what the user can mend into one clear message and exit code 1."""
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in LOCAL_MODULES:
            raise
        _end(f"the local stack needs {error.name}: install outlast[local]")
    except (SettingsError, FileProcessingError, ValueError, RuntimeError) as error:
        _end(str(error))
    except OSError as error:
        _end(f"{error.strerror or error}; is a port or a folder in the settings taken, or not allowed?")


def _end(message: str) -> NoReturn:
    sys.stderr.write(f"outlast: {message}\n")
    sys.exit(1)
