"""Checks of the tables of generations: the types of columns, and whether a row accepts Outlast's updates."""

from typing import Any, Final

from schemas.jobs import DEFAULT_BINDING
from worker.doctor.context import CheckContext
from worker.doctor.database import OPTIONAL, REINSTALL_REMEDY
from worker.doctor.project import error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning

MAX_LABELS: Final = 8


async def column_types(context: CheckContext) -> str:
    """A row must be able to have the completed value; creation times must be comparable, and outputs readable."""
    columns = await _call(context, "outlast_check_columns")
    _check_status(context.settings.generations_completed_value, columns["status"])
    _check_created(context, columns["created"])
    _check_output(context, columns["output"])
    return f"status is {columns['status']['type']}, the output is {columns['output']['type']}"


async def bindings(context: CheckContext) -> str:
    """The tables of all further bindings must fit them, and have Outlast's columns, triggers and index."""
    further = context.health.get("bindings", [])[1:]
    for health in further:
        name, table = health["binding"], health["generations"]
        problems = {
            f"there is no table {table['schema']}.{table['table']}": not table["found"],
            f"{table['table']} lacks the column for {', '.join(table['absent'])}": set(table["absent"]) - OPTIONAL,
            "a column that Outlast writes is missing": not health["media_columns"],
            "its triggers are missing, disabled, or those of other names": not (
                health["trigger"] and health["deletion_triggers"] and health["triggers_current"]
            ),
        }
        found = [problem for problem, present in problems.items() if present]
        if found:
            raise CheckFailure(f"binding {name}: {found[0]}", REINSTALL_REMEDY)
        columns = await _call(context, "outlast_check_columns", p_binding=name)
        if not columns["status"]["fits"]:
            problem = f"binding {name}: no row can have the status {columns['status']['problem']}"
            raise CheckFailure(problem, f"name another one: outlast init --binding {name} --completed-value ...")
        if "user" in table["absent"]:
            raise CheckWarning(
                f"binding {name}: {table['table']} has no column {table['columns']['user']} for the owner, so its "
                "files go to the folder `anonymous`",
                f"name it, or none: outlast init --binding {name} --owner ...",
            )
    return f"{len(further)} besides generations" if further else "no others"


async def row_update(context: CheckContext) -> str:
    """A completed row of each table must accept Outlast's updates. They are tried on one row, and undone."""
    names = [health["binding"] for health in context.health.get("bindings", [])] or [DEFAULT_BINDING]
    tried = 0
    for number, name in enumerate(names):
        found = await _call(context, "outlast_try_update", p_binding=name)
        tried += bool(found)
        if "sqlstate" in found:
            where = f" ({found['context']})" if found.get("context") else ""
            raise CheckFailure(
                f"{f'binding {name}: ' if number else ''}row {found['id']} refuses the update of media and "
                f"media_status, SQLSTATE {found['sqlstate']}: {found['message']}{where}",
                "let your trigger or constraint accept an update of these two columns; auth.uid() is null in it",
            )
    if not tried:
        return "not tried: there is no completed row, or another transaction holds it"
    return "a completed row accepts media and media_status"


async def _call(context: CheckContext, function: str, **arguments: str) -> dict[str, Any]:
    """Call an SQL function that returns an object, by default for the first binding. Raises CheckFailure."""
    binding = {"p_binding": context.health.get("binding") or DEFAULT_BINDING}
    response = await context.supabase_http.post(f"/rest/v1/rpc/{function}", json=binding | arguments)
    answer = parse_body(response)
    if response.is_error or not isinstance(answer, dict):
        raise CheckFailure(
            f"{function} answers {response.status_code}: {error_message(response)}",
            "run the SQL of `outlast init` in the project's SQL editor",
        )
    return answer


def _check_status(completed: str, status: dict[str, Any]) -> None:
    if status["fits"]:
        return
    labels = f"; its values are: {', '.join(status['labels'][:MAX_LABELS])}" if status["labels"] else ""
    reason = f"because the column has the type {status['type']}{labels}"
    if "constraint" in status["problem"]:
        reason = f"because of a check constraint: {status['problem']}"
    raise CheckFailure(
        f"no row can have the status {completed!r}, {reason}",
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
