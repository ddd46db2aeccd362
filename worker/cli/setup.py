"""`outlast init` and `outlast doctor`: set up a project, and check a set-up."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from schemas.jobs import DEFAULT_BINDING

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OPTION_OF_SETTING: Final = {
    **{f"generations_{name}": name for name in ("schema", "table", "id_column", "status_column", "request_column")},
    **{f"generations_{name}": name for name in ("created_column", "model_column")},
    "generations_user_column": "owner",
    "generations_output_column": "output_columns",
    "generations_completed_value": "completed_values",
}
"""The settings for webhooks made in Studio, each with the option of `outlast init` that has its value."""


def init(
    binding: Annotated[
        str | None,
        typer.Option(
            help="Name of the binding to make or change (default: generations). Each table of generations has one."
        ),
    ] = None,
    schema: Annotated[str | None, typer.Option(help="Schema of your table of generations.")] = None,
    table: Annotated[str | None, typer.Option(help="Your table of generations.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Its primary key column: uuid, bigint or text.")] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            "--user-column",
            help="Its column with the owner's id, a path over a foreign key ('project_id -> projects.id: owner_id'), "
            "or none.",
        ),
    ] = None,
    status_column: Annotated[
        str | None,
        typer.Option(help="Its column with the status; none: a row is completed when an output is set or changes."),
    ] = None,
    output_columns: Annotated[
        list[str] | None,
        typer.Option("--output-column", help="Its column with FAL's JSON, a URL or an array of URLs. Repeatable."),
    ] = None,
    request_column: Annotated[str | None, typer.Option(help="Its column with FAL's request id, or none.")] = None,
    created_column: Annotated[str | None, typer.Option(help="Its column with the creation time, or none.")] = None,
    model_column: Annotated[str | None, typer.Option(help="Its column with FAL's model id, if there is one.")] = None,
    error_column: Annotated[str | None, typer.Option(help="Its column with an error, if there is one.")] = None,
    deleted_column: Annotated[
        str | None, typer.Option(help="Its column that is set when a row counts as deleted, if there is one.")
    ] = None,
    completed_values: Annotated[
        list[str] | None,
        typer.Option("--completed-value", help="Value of the status column that means completed. Repeatable."),
    ] = None,
    media_column: Annotated[
        str | None, typer.Option(help="The column that Outlast writes the files to (default: media), or none.")
    ] = None,
    media_status_column: Annotated[
        str | None,
        typer.Option(help="The column that Outlast writes the files' status to (default: media_status), or none."),
    ] = None,
    write_urls: Annotated[
        list[str] | None,
        typer.Option(
            "--write-url",
            help="Its column that gets the stored file's URL (the path in a private bucket): 'image_url=stored_url', "
            "or 'image_url' to replace the URL there. Repeatable.",
        ),
    ] = None,
    fal_finishes: Annotated[
        bool,
        typer.Option("--fal-finishes", help="FAL's webhook completes its rows: it writes output, status and error."),
    ] = False,
    failed_values: Annotated[
        list[str] | None,
        typer.Option(
            "--failed-value",
            help="Status that FAL's webhook gives to failed rows (default: failed), or none. Repeatable: rows that "
            "have one of the further values stay as they are.",
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            help="Bucket for the files; with --binding for those of this binding. The SQL creates it if it does not "
            "exist."
        ),
    ] = None,
    public_bucket: Annotated[bool, typer.Option("--public-bucket", help="Create the bucket as a public one.")] = False,
    object_path: Annotated[
        str | None,
        typer.Option(
            help="Folders of the files in the bucket, from columns: '{org_id}/{user_id}' (default: {user_id})."
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(help="Variants of this table's files, as in VARIANTS, which they replace; or none."),
    ] = None,
    receiver_url: Annotated[
        str | None, typer.Option(help="Public URL of the receiver, e.g. https://outlast.example.com.")
    ] = None,
    sweep_only: Annotated[
        bool,
        typer.Option("--sweep-only", help="Send no webhooks: workers find completed generations by their sweep."),
    ] = False,
    alerts_to: Annotated[
        str | None,
        typer.Option(
            help="Where compose's Alertmanager sends alerts: a webhook, Slack's (https://...), or "
            "smtp://user:password@host:587/you@example.com."
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write outlast.sql, outlast_secret.sql, .env and next_steps.md here. Nothing is overwritten.",
        ),
    ] = None,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove", help="Print the SQL that removes Outlast from the database; with --binding, only this binding."
        ),
    ] = False,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="With --remove: also remove Outlast's tables and the media columns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the SQL to apply, a `.env` to fill in, and the next steps. Names not given come from the settings."""
    from worker.cli import init_project
    from worker.cli.bindings import unbind_sql

    if sweep_only and receiver_url is not None:
        raise typer.BadParameter("--sweep-only and --receiver-url exclude each other")
    if with_data and not remove:
        raise typer.BadParameter("--with-data can only be used with --remove")
    if remove and write is not None:
        raise typer.BadParameter("--remove prints its SQL: use > FILE in place of --write")
    if remove:
        sys.stdout.write(init_project.removal_sql(with_data=with_data) if binding is None else unbind_sql(binding))
        return
    options = dict(locals())
    setup = _make_setup(options, receiver_url, sweep_only=sweep_only, alerts_to=alerts_to)
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


def _make_setup(
    options: Mapping[str, Any], receiver_url: str | None, *, sweep_only: bool, alerts_to: str | None
) -> Any:  # noqa: ANN401 - worker.cli.init_project is imported late
    """Return the set-up. Raise BadParameter for an invalid name or URL."""
    from yarl import URL

    from worker.cli.bindings import Binding
    from worker.cli.init_project import GENERATED_NOTE, make_setup, signing_secret
    from worker.settings import Settings

    if receiver_url is not None and not (URL(receiver_url).host and URL(receiver_url).scheme in {"http", "https"}):
        raise typer.BadParameter(f"--receiver-url: {receiver_url!r} is not a URL; example: https://outlast.example.com")
    try:
        # Settings needs both or neither. During set-up only one may be filled in yet, which must not stop `init`.
        settings = Settings.load(supabase_url=None, supabase_service_role_key=None, **_settings(options))
        if signing_secret(settings) is None and not options["as_json"]:
            sys.stderr.write(GENERATED_NOTE)
        binding = Binding.from_options(settings, options)
        return make_setup(settings, receiver_url, binding, sweep_only=sweep_only, alerts_to=alerts_to)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _settings(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that the options change. GENERATIONS_* describe the binding `generations` only."""
    if options["binding"] not in {None, DEFAULT_BINDING}:
        return {}
    changed = {} if options["bucket"] is None else {"storage_bucket": options["bucket"]}
    for setting, option in OPTION_OF_SETTING.items():
        value = options[option][0] if isinstance(options[option], list) else options[option]
        if value and value != "none" and "->" not in value:
            changed[setting] = value
    return changed
