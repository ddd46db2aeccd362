"""Checks of the columns of the generations table, with the function `outlast_check_columns`."""

from typing import Any, Final

from worker.doctor.context import CheckContext
from worker.doctor.project import error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning

MAX_LABELS: Final = 8


async def column_types(context: CheckContext) -> str:
    """The types must fit: a row can have the completed value, and the creation time can be compared with a time."""
    response = await context.supabase_http.post("/rest/v1/rpc/outlast_check_columns", json={})
    columns = parse_body(response)
    if response.is_error or not isinstance(columns, dict):
        raise CheckFailure(
            f"outlast_check_columns answers {response.status_code}: {error_message(response)}",
            "run the SQL of `outlast init` in the project's SQL editor",
        )
    _check_status(context, columns["status"])
    _check_created(context, columns["created"])
    _check_output(context, columns["output"])
    return f"status is {columns['status']['type']}, the output is {columns['output']['type']}"


def _check_status(context: CheckContext, status: dict[str, Any]) -> None:
    if status["fits"]:
        return
    completed = context.settings.generations_completed_value
    labels = f"; its values are: {', '.join(status['labels'][:MAX_LABELS])}" if status["labels"] else ""
    raise CheckFailure(
        f"no row can have the status {completed!r}, because the column has the type {status['type']}{labels}",
        "set GENERATIONS_COMPLETED_VALUE to the status of completed rows, as text, and run the SQL of `outlast init`",
    )


def _check_created(context: CheckContext, created: dict[str, Any]) -> None:
    if created["fits"]:
        return
    column = context.settings.generations_created_column
    raise CheckFailure(
        f"{column} has the type {created['type']}, so that the sweep cannot compare it with a time",
        f"name a column of type timestamptz (outlast init --created-column), or change the type of {column}",
    )


def _check_output(context: CheckContext, output: dict[str, Any]) -> None:
    if not output["unreadable"]:
        return
    column = context.settings.generations_output_column
    raise CheckWarning(
        f"{output['unreadable']} of {output['checked']} new outputs cannot be read as jsonb, for example because of"
        " \\u0000: no webhook is sent for them",
        f'remove \\u0000 before you write {column}, and use jsonb: alter table ... alter "{column}" type jsonb',
    )
