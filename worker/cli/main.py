"""The `outlast` command.

Exit codes: 0 done, 1 failed, 2 usage error, 3 partly done.

Each command imports its modules when it runs, so that `--help` is fast and a receiver loads no decoder.
"""

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from handlers.errors import FileProcessingError
from handlers.settings import SettingsError
from worker.cli.adopt.options import adopt
from worker.cli.dead.options import dead
from worker.cli.moments import FORMS, read_since
from worker.cli.optimize import optimize
from worker.cli.setup import doctor, init
from worker.cli.show.options import config, sources
from worker.cli.tasks import cancel, status, submit, workers
from worker.cli.trial.options import try_

if TYPE_CHECKING:
    from worker.settings import Settings

app = typer.Typer(
    name="outlast",
    help="Stores the files of FAL generations in Supabase Storage before their links expire.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - called by typer
    if wanted:
        typer.echo(f"outlast {version('outlast')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options of `outlast` itself."""


app.command()(init)
app.command()(doctor)
app.command()(config)
app.add_typer(dead, name="dead")
app.command()(optimize)
app.command("try")(try_)

DataDir = Annotated[Path, typer.Option(help="Folder with all data of the local stack.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LOCAL_MODULES: Final = frozenset({"asyncpg", "psutil"})
DEFAULT_DATA_DIR = Path(".outlast")


@app.command()
def receiver() -> None:
    """Run a receiver: accept webhooks and publish jobs. Configured by environment variables or `.env`."""
    import worker.web.receiver  # noqa: F401 - loaded before the garbage collector is set up
    from worker.app import run_receiver
    from worker.runtime import run
    from worker.settings import Settings

    settings = Settings.load().for_receiver()
    _prepare_process(settings)
    run(lambda stop: run_receiver(settings, stop))


@app.command()
def worker(
    queues: Annotated[
        str | None, typer.Option(help="Queues to consume, instead of WORKER_QUEUES: file_processing=8,maintenance")
    ] = None,
) -> None:
    """Run a worker: download, compress and store the files of jobs. Configured by environment variables or `.env`."""
    from worker.app import run_worker
    from worker.runtime import run
    from worker.settings import Settings

    settings = Settings.load(**({} if queues is None else {"worker_queues": queues})).for_worker()
    _prepare_process(settings)
    run(lambda stop: run_worker(settings, stop))


@app.command()
def serve() -> None:
    """Run receiver and worker together, for one small machine: one process, one port, RECEIVER_PORT."""
    from worker.runtime import run
    from worker.settings import Settings
    from worker.single import run_serve

    settings = Settings.load().for_serve()
    _prepare_process(settings)
    run(lambda stop: run_serve(settings, stop))


@app.command()
def process(
    urls: Annotated[list[str], typer.Argument(help="URLs of the files.")],
    user: Annotated[str | None, typer.Option(help="Id of the user who owns the files.")] = None,
    generation: Annotated[str | None, typer.Option(help="Id of their generation. Default: a new id.")] = None,
    out: Annotated[Path | None, typer.Option(help="Store the files in this folder instead of Supabase.")] = None,
    as_json: AsJson = False,
) -> None:
    """Process files once, without a broker. Exit code 0: all stored, 3: some, 1: none."""
    from worker.cli.process import process_once

    sys.exit(asyncio.run(process_once(urls, user, generation, out, as_json=as_json)))


for command in (submit, status, cancel, workers, sources, adopt):
    app.command()(command)


@app.command()
def reconcile(
    since: Annotated[str | None, typer.Option(help=f"Only generations created at or after this time: {FORMS}")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what was missed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue completed generations without media, and stalled tasks."""
    from worker.cli.reconcile_run import reconcile_once

    sys.exit(asyncio.run(reconcile_once(read_since(since), dry_run=dry_run, as_json=as_json)))


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=0, max=64, help="Number of workers.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the receiver. Default: 8080, or a free port if 8080 is in use."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Run the whole local stack in the foreground. Ctrl-C stops it."""
    from deploy.local.up import run_up

    sys.exit(asyncio.run(run_up(data_dir, workers=workers, port=port, as_json=as_json)))


@app.command()
def demo(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Start the local stack, process sample generations, print the stored files, stop."""
    from deploy.local.demo import run_demo

    sys.exit(asyncio.run(run_demo(data_dir, as_json=as_json)))


def _prepare_process(settings: "Settings") -> None:
    """Configure logging and memory of a long-running process; warn of misspelt settings."""
    import structlog

    from worker.observability.logs import configure
    from worker.runtime import freeze_gc, share_one_heap
    from worker.setting_names import misspelt_names

    configure(settings)
    for name in misspelt_names():
        structlog.stdlib.get_logger(__name__).warning("misspelt setting", problem=str(name))
    share_one_heap()
    freeze_gc()


def main() -> None:
    """Run the command. Print errors that the user can fix as one message, with exit code 1."""
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in LOCAL_MODULES:
            raise
        _end(f"the local stack needs the Python package {error.name}: pip install 'outlast[local]'")
    except (SettingsError, FileProcessingError, ValueError, RuntimeError) as error:
        _end(str(error))
    except OSError as error:
        _end(_system_error(error))


def _system_error(error: OSError) -> str:
    """Return what the system refused, where, and what to do. An error without errno is ours; its text is complete."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}; name a folder that exists and that you may write to"
    if error.errno is None:
        return str(error)
    return f"{error.strerror}; check the addresses and ports in the settings: one may be in use, or not permitted"


def _end(message: str) -> NoReturn:
    sys.stderr.write(f"outlast: {message}\n")
    sys.exit(1)
