"""`outlast init` and `outlast doctor`: setting up, and finding out why it does not work."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
NAMES: Final = (
    *("schema", "table", "id_column", "user_column", "status_column", "output_column", "request_column"),
    *("created_column", "model_column", "completed_value"),
)
"""The options that are settings called `generations_...`."""


def init(
    schema: Annotated[str | None, typer.Option(help="The schema of your table of generations.")] = None,
    table: Annotated[str | None, typer.Option(help="Your table of generations.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Its primary key: uuid, bigint or text.")] = None,
    user_column: Annotated[str | None, typer.Option(help="Its column with the owner.")] = None,
    status_column: Annotated[str | None, typer.Option(help="Its column with the state.")] = None,
    output_column: Annotated[str | None, typer.Option(help="Its column with FAL's JSON, a URL, or URLs.")] = None,
    request_column: Annotated[str | None, typer.Option(help="Its column with FAL's request id.")] = None,
    created_column: Annotated[str | None, typer.Option(help="Its column with the creation time.")] = None,
    model_column: Annotated[str | None, typer.Option(help="Its column with FAL's model id, if there is one.")] = None,
    completed_value: Annotated[str | None, typer.Option(help="The state that means completed.")] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket files are stored in; made if it is missing.")] = None,
    receiver_url: Annotated[
        str | None, typer.Option(help="Where the receiver will answer, e.g. https://outlast.example.com.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write outlast.sql and .env there; nothing is overwritten.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Print the SQL that takes Outlast out again.")] = False,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="With --remove: its tables and the media columns, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the SQL to apply and a `.env` to fill in, for your table; names not given are taken from the settings."""
    from worker import init as setup

    if with_data and not remove:
        raise typer.BadParameter("--with-data belongs to --remove")
    if remove:
        sys.stdout.write(setup.removal(with_data=with_data))
        return
    options = locals()
    given = {f"generations_{name}": options[name] for name in NAMES} | {"storage_bucket": bucket}
    made = _prepare({name: value for name, value in given.items() if value is not None}, receiver_url)
    if write is None:
        setup.show(made, as_json=as_json)
        return
    for path in setup.write(made, write):
        sys.stdout.write(f"{path}\n")


def doctor(as_json: AsJson = False) -> None:
    """Check broker, database, Storage, webhooks and this machine; say for each failure what to do. Changes nothing."""
    from worker.doctor.run import examine

    sys.exit(asyncio.run(examine(as_json=as_json)))


def _prepare(names: dict[str, Any], receiver_url: str | None) -> Any:  # noqa: ANN401 - worker.init is imported late
    """Raise BadParameter for what cannot be a name, or no address."""
    from yarl import URL

    from worker.init import prepare
    from worker.settings import Settings

    if receiver_url is not None and not (URL(receiver_url).host and URL(receiver_url).scheme in {"http", "https"}):
        raise typer.BadParameter(f"--receiver-url: {receiver_url!r} is no address such as https://outlast.example.com")
    try:
        # A project half filled in, as it is while setting up, is no reason to refuse.
        settings = Settings.load(supabase_url=None, supabase_service_role_key=None, **names)
        return prepare(settings, receiver_url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
