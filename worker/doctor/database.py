"""Checks of the database, with the function `outlast_health` and the REST API."""

from datetime import UTC, datetime
from typing import Any, Final

import httpx

from schemas.jobs import DEFAULT_BINDING
from worker.cli import migrations
from worker.doctor.context import CheckContext
from worker.doctor.project import compare_clocks, error_code, error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning

APPLY_REMEDY: Final = "run the SQL of `outlast init` in the project's SQL editor"
REINSTALL_REMEDY: Final = "run in the SQL editor: select public.outlast_install();"
OPTIONAL: Final = frozenset({"user", "request"})
"""Columns that a table of generations may lack."""
MAX_LISTED: Final = 3


async def functions(context: CheckContext) -> str:
    """All functions that workers call must exist. The result of `outlast_health` is kept for later checks."""
    requested_at = datetime.now(UTC)
    try:
        response = await context.supabase_http.post("/rest/v1/rpc/outlast_health", json={})
    except httpx.HTTPError as error:
        raise CheckFailure(
            f"the REST API does not answer: {type(error).__name__}", "check the status of the project"
        ) from error
    health = parse_body(response)
    if error_code(response) in {"PGRST202", "42883"}:
        raise CheckFailure(
            "the database has no function outlast_health",
            f"{APPLY_REMEDY}; if that is done: notify pgrst, 'reload schema'",
        )
    if response.is_error or not isinstance(health, dict):
        raise CheckFailure(f"outlast_health answers {response.status_code}: {error_message(response)}", APPLY_REMEDY)
    context.health, context.requested_at = health, requested_at
    missing = sorted(migrations.functions() - set(health.get("functions", [])))
    if missing:
        raise CheckFailure(f"{len(missing)} functions are missing or not granted: {_first_few(missing)}", APPLY_REMEDY)
    return f"{len(migrations.functions())} exist"


async def migrations_version(context: CheckContext) -> str:
    """The migrations of this version must be applied."""
    applied, newest = str(context.health.get("version")), migrations.newest_version()
    if applied > newest:
        raise CheckWarning(
            f"the database has version {applied}, newer than this program ({newest})", "upgrade Outlast on this machine"
        )
    if applied < newest:
        raise CheckFailure(f"the database has version {applied}, but this program needs {newest}", APPLY_REMEDY)
    return f"migrations up to {newest} are applied"


async def tables(context: CheckContext) -> str:
    """All our tables must exist, with row-level security."""
    security: dict[str, bool] = context.health.get("tables", {})
    tables_ = migrations.tables()
    missing = sorted(tables_ - security.keys())
    if missing:
        raise CheckFailure(f"tables are missing: {_first_few(missing)}", APPLY_REMEDY)
    unprotected = [name for name in sorted(tables_) if not security[name]]
    if unprotected:
        raise CheckFailure(
            f"row-level security is off on {_first_few(unprotected)}: everybody can read them", APPLY_REMEDY
        )
    return f"{len(tables_)} exist, with row-level security"


async def grants(context: CheckContext) -> str:
    """The roles `anon` and `authenticated` must not be able to execute our functions."""
    if context.health.get("anon_can_execute") is not False:
        raise CheckFailure("anon or authenticated may execute our functions", APPLY_REMEDY)
    return "anon and authenticated may not execute our functions"


async def database_clock(context: CheckContext) -> str:
    """The database's clock must be right, because the database signs the webhooks."""
    return compare_clocks(
        datetime.fromisoformat(str(context.health["now"])),
        context.requested_at or datetime.now(UTC),
        "the database's clock",
    )


async def generations(context: CheckContext) -> str:
    """Settings and database must have the same names for the table of generations, and the table must fit them.

    The settings describe the binding `generations`. If there is none, only the table of the first binding is judged.
    """
    health = context.health["generations"]
    ours = _names_in_settings(context)
    theirs = {"schema": health["schema"], "table": health["table"]} | health["columns"]
    theirs["completed"] = health["completed"]
    if context.health.get("binding") != DEFAULT_BINDING:
        ours = {}
    different = [name for name, value in ours.items() if theirs[name] and value not in theirs[name].split(",")]
    if different:
        pairs = [f"{name} is {theirs.get(name)!r} there and {ours[name]!r} here" for name in different]
        raise CheckFailure(
            f"database and settings differ: {_first_few(pairs)}",
            f"correct GENERATIONS_... here; to change the database, {APPLY_REMEDY}",
        )
    where = f"{health['schema']}.{health['table']}"
    if health["table"] is None:
        raise CheckFailure("no table is bound", APPLY_REMEDY)
    if not health["found"]:
        raise CheckFailure(
            f"there is no table {where}", "create it, or name yours: outlast init --schema ... --table ..."
        )
    absent = [f"{name} ({theirs[name]!r})" for name in health["absent"] if name not in OPTIONAL]
    if absent:
        raise CheckFailure(f"{where} has no column for {_first_few(absent)}", "name yours: outlast init --help")
    without = [name for name in health["absent"] if name in OPTIONAL]
    if without:
        meaning = (
            "without an owner, files go to the folder `anonymous`; without request ids, FAL's webhooks find no row"
        )
        raise CheckWarning(
            f"{where} has no column for {_first_few(without)}: {meaning}", "name yours: outlast init --help"
        )
    return f"{where}, completed is {health['completed']!r}"


async def media_columns(context: CheckContext) -> str:
    """The table must have the columns that we write."""
    if not context.health["media_columns"]:
        raise CheckFailure("your table has no column `media` or `media_status`", REINSTALL_REMEDY)
    return "media and media_status exist"


async def triggers(context: CheckContext) -> str:
    """The triggers that send webhooks must exist, for the current names."""
    if not context.health["trigger"]:
        raise CheckFailure("your table has no outlast_notify triggers, or they are disabled", REINSTALL_REMEDY)
    if not context.health["triggers_current"]:
        raise CheckFailure("the triggers were created for other names, or are incomplete", REINSTALL_REMEDY)
    return "exist, for the current names"


async def sweep_index(context: CheckContext) -> str:
    """The table should have the index for the sweep. Without it, each sweep reads the whole table."""
    if not context.health["sweep_index"]:
        raise CheckWarning(
            "your table has no index for the sweep, which therefore reads the whole table", REINSTALL_REMEDY
        )
    return "exists"


async def realtime(context: CheckContext) -> str:
    """Realtime should publish tasks and files: front ends follow the progress with it."""
    if not context.health["realtime"]:
        remedy = "run: alter publication supabase_realtime add table public.outlast_tasks, public.outlast_files;"
        raise CheckWarning("Realtime does not publish tasks and files", remedy)
    return "publishes tasks and files"


async def rest_schema(context: CheckContext) -> str:
    """Workers should be able to read rows over REST: to ask FAL for new links, they need its model and request id."""
    if context.settings.fal_key is None:
        return "not needed: without FAL_KEY, FAL is not asked for new links"
    bound = [health["generations"] for health in context.health.get("bindings", [])]
    for table in bound or [context.health["generations"]]:
        response = await context.supabase_http.get(
            f"/rest/v1/{table['table']}", params={"limit": "0"}, headers={"Accept-Profile": table["schema"]}
        )
        if response.is_error:
            name = f'"{table["schema"]}"."{table["table"]}"'
            raise CheckWarning(
                f"rows of {name} cannot be read ({error_code(response)}), so FAL is not asked for new links",
                f'expose the schema (Project settings, API) and: grant usage on schema "{table["schema"]}" to '
                f"service_role; grant select on {name} to service_role;",
            )
    return f"rows of {len(bound) or 1} tables can be read"


def _names_in_settings(context: CheckContext) -> dict[str, str]:
    settings = context.settings
    columns = ("id", "user", "status", "output", "request", "created")
    return {
        "schema": settings.generations_schema,
        "table": settings.generations_table,
        **{name: str(getattr(settings, f"generations_{name}_column")) for name in columns},
        "completed": settings.generations_completed_value,
    }


def _first_few(names: list[Any]) -> str:
    """Return the first entries of a list, and the number of the others."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(map(str, names[:MAX_LISTED])) + more
