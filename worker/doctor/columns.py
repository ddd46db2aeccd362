"""Checks of the columns of the generations table: their types, and whether a row accepts Outlast's updates."""

from typing import Any, Final

from worker.doctor.context import CheckContext
from worker.doctor.project import error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning

MAX_LABELS: Final = 8


async def column_types(context: CheckContext) -> str:
    """The types must fit: a row can have the completed value, and the creation time can be compared with a time."""
    columns = await _call(context, "outlast_check_columns")
    _check_status(context, columns["status"])
    _check_created(context, columns["created"])
    _check_output(context, columns["output"])
    return f"status is {columns['status']['type']}, the output is {columns['output']['type']}"


async def row_update(context: CheckContext) -> str:
    """A completed row must accept Outlast's updates. They are tried on one row, and undone."""
    found = await _call(context, "outlast_try_update")
    if not found:
        return "not tried: there is no completed row, or another transaction holds it"
    if "sqlstate" in found:
        context_line = f" ({found['context']})" if found.get("context") else ""
        raise CheckFailure(
            f"row {found['id']} refuses the update of media and media_status, SQLSTATE {found['sqlstate']}: "
            f"{found['message']}{context_line}",
            "let your trigger or constraint accept an update of these two columns; auth.uid() is null in it",
        )
    return "a completed row accepts media and media_status"


async def _call(context: CheckContext, function: str) -> dict[str, Any]:
    """Call a function without arguments that returns an object. Raises CheckFailure."""
    response = await context.supabase_http.post(f"/rest/v1/rpc/{function}", json={})
    answer = parse_body(response)
    if response.is_error or not isinstance(answer, dict):
        raise CheckFailure(
            f"{function} answers {response.status_code}: {error_message(response)}",
            "run the SQL of `outlast init` in the project's SQL editor",
        )
    return answer


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
