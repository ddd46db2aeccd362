"""`outlast init` and `outlast doctor`: set up a project, and check a set-up."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NAMES: Final = (
    *("schema", "table", "id_column", "user_column", "status_column", "output_column", "request_column"),
    *("created_column", "model_column", "completed_value"),
)
"""The options that set a setting called `generations_...`."""


def init(
    schema: Annotated[str | None, typer.Option(help="Schema of your table of generations.")] = None,
    table: Annotated[str | None, typer.Option(help="Your table of generations.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Its primary key column: uuid, bigint or text.")] = None,
    user_column: Annotated[str | None, typer.Option(help="Its column with the owner's id.")] = None,
    status_column: Annotated[str | None, typer.Option(help="Its column with the status.")] = None,
    output_column: Annotated[
        str | None, typer.Option(help="Its column with FAL's JSON, a URL or an array of URLs.")
    ] = None,
    request_column: Annotated[str | None, typer.Option(help="Its column with FAL's request id.")] = None,
    created_column: Annotated[str | None, typer.Option(help="Its column with the creation time.")] = None,
    model_column: Annotated[str | None, typer.Option(help="Its column with FAL's model id, if there is one.")] = None,
    completed_value: Annotated[
        str | None, typer.Option(help="Value of the status column that means completed.")
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(help="Bucket for the files. The SQL creates it if it does not exist.")
    ] = None,
    receiver_url: Annotated[
        str | None, typer.Option(help="Public URL of the receiver, e.g. https://outlast.example.com.")
    ] = None,
    sweep_only: Annotated[
        bool,
        typer.Option("--sweep-only", help="Send no webhooks: workers find completed generations by their sweep."),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write outlast.sql, outlast_secret.sql, .env and next_steps.md here. Nothing is overwritten.",
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Print the SQL that removes Outlast from the database.")
    ] = False,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="With --remove: also remove its tables and the media columns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the SQL to apply, a `.env` to fill in, and the next steps. Names not given come from the settings."""
    from worker.cli import init_project

    if sweep_only and receiver_url is not None:
        raise typer.BadParameter("--sweep-only and --receiver-url exclude each other")
    if with_data and not remove:
        raise typer.BadParameter("--with-data can only be used with --remove")
    if remove:
        sys.stdout.write(init_project.removal_sql(with_data=with_data))
        return
    options = locals()
    given = {f"generations_{name}": options[name] for name in NAMES} | {"storage_bucket": bucket}
    setup = _prepare(
        {name: value for name, value in given.items() if value is not None}, receiver_url, sweep_only=sweep_only
    )
    if write is None:
        init_project.show(setup, as_json=as_json)
        return
    for path in init_project.write(setup, write):
        sys.stdout.write(f"{path}\n")
    sys.stderr.write("\n" + setup.next_steps)


def doctor(as_json: AsJson = False) -> None:
    """Check machine, broker, database, Storage and webhooks; print a remedy for each failure. Changes nothing."""
    from worker.doctor.run import run_doctor

    sys.exit(asyncio.run(run_doctor(as_json=as_json)))


def _prepare(names: dict[str, Any], receiver_url: str | None, *, sweep_only: bool) -> Any:  # noqa: ANN401 - worker.cli.init_project is imported late
    """Return the set-up. Raise BadParameter for an invalid name or URL."""
    from yarl import URL

    from worker.cli.init_project import prepare
    from worker.settings import Settings

    if receiver_url is not None and not (URL(receiver_url).host and URL(receiver_url).scheme in {"http", "https"}):
        raise typer.BadParameter(f"--receiver-url: {receiver_url!r} is not a URL; example: https://outlast.example.com")
    try:
        # During set-up only one of the two may be filled in yet. That must not stop `init`.
        settings = Settings.load(supabase_url=None, supabase_service_role_key=None, **names)
        return prepare(settings, receiver_url, sweep_only=sweep_only)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
