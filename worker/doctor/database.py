"""The database, as `outlast_health` and the REST API tell of it."""

from datetime import UTC, datetime
from typing import Any, Final

import httpx

from worker.cli import migrations
from worker.doctor.context import CheckContext
from worker.doctor.project import body_of, compare, error_code, message
from worker.doctor.result import Concern, Failure

APPLY: Final = "apply what `outlast init` prints in the project's SQL editor"
REINSTALL: Final = "run in the SQL editor: select public.outlast_install();"
OPTIONAL: Final = frozenset({"user", "request"})
"""Columns of a table of generations that it may lack."""
SHOWN: Final = 3


async def functions(site: CheckContext) -> str:
    """Ask the database how it is; every function that workers call must be there."""
    asked_at = datetime.now(UTC)
    try:
        answer = await site.http.post("/rest/v1/rpc/outlast_health", json={})
    except httpx.HTTPError as error:
        raise Failure(
            f"the REST API gives no answer: {type(error).__name__}", "look at the project's status"
        ) from error
    health = body_of(answer)
    if error_code(answer) in {"PGRST202", "42883"}:
        raise Failure(
            "the database has no function outlast_health", f"{APPLY}; when it is done: notify pgrst, 'reload schema'"
        )
    if answer.is_error or not isinstance(health, dict):
        raise Failure(f"outlast_health answers {answer.status_code}: {message(answer)}", APPLY)
    site.health, site.asked_at = health, asked_at
    missing = sorted(migrations.functions() - set(health.get("functions", [])))
    if missing:
        raise Failure(f"{len(missing)} functions are missing or closed: {_some(missing)}", APPLY)
    return f"{len(migrations.functions())} are there"


async def version(site: CheckContext) -> str:
    """The migrations of this very version must be applied."""
    applied, newest = str(site.health.get("version")), migrations.newest()
    if applied > newest:
        raise Concern(f"the database is at {applied}, newer than this program ({newest})", "upgrade Outlast here")
    if applied < newest:
        raise Failure(f"the database is at {applied}, and this version needs {newest}", APPLY)
    return f"migrations up to {newest} are applied"


async def tables(site: CheckContext) -> str:
    """Every table of ours, each closed to strangers by row-level security."""
    found: dict[str, bool] = site.health.get("tables", {})
    missing, wanted = sorted(migrations.tables() - found.keys()), migrations.tables()
    if missing:
        raise Failure(f"tables are missing: {_some(missing)}", APPLY)
    open_ = [name for name in sorted(wanted) if not found[name]]
    if open_:
        raise Failure(f"row-level security is off on {_some(open_)}: anybody may read them", APPLY)
    return f"{len(wanted)} are there, with row-level security"


async def grants(site: CheckContext) -> str:
    """Visitors and users call none of our functions."""
    if site.health.get("anon_can_execute") is not False:
        raise Failure("anon or authenticated may execute functions of ours", APPLY)
    return "anon and authenticated may execute none of our functions"


async def database_clock(site: CheckContext) -> str:
    """It is the database that signs."""
    return compare(
        datetime.fromisoformat(str(site.health["now"])), site.asked_at or datetime.now(UTC), "the database's"
    )


async def generations(site: CheckContext) -> str:
    """Your table, by the names that both the settings and the database have."""
    told = site.health["generations"]
    ours, theirs = _names(site), {"schema": told["schema"], "table": told["table"]} | told["columns"]
    theirs["completed"] = told["completed"]
    different = [name for name, value in ours.items() if theirs.get(name) != value]
    if different:
        pairs = [f"{name} is {theirs.get(name)!r} there and {ours[name]!r} here" for name in different]
        raise Failure(f"database and settings differ: {_some(pairs)}", f"mend GENERATIONS_... here, or there: {APPLY}")
    where = f"{told['schema']}.{told['table']}"
    if not told["found"]:
        raise Failure(f"there is no table {where}", "make it, or name yours: outlast init --schema ... --table ...")
    absent = [f"{name} ({theirs[name]!r})" for name in told["absent"] if name not in OPTIONAL]
    if absent:
        raise Failure(f"{where} has no column for {_some(absent)}", "name yours: outlast init --help")
    without = [name for name in told["absent"] if name in OPTIONAL]
    if without:
        meaning = "no owner means the folder `anonymous`; without request ids FAL's own webhook finds no row"
        raise Concern(f"{where} has no column for {_some(without)}: {meaning}", "name yours: outlast init --help")
    return f"{where}, completed is {told['completed']!r}"


async def media_columns(site: CheckContext) -> str:
    """What we write on your rows."""
    if not site.health["media_columns"]:
        raise Failure("your table lacks `media` or `media_status`", REINSTALL)
    return "media and media_status are there"


async def triggers(site: CheckContext) -> str:
    """What tells the receiver, made for the names that count now."""
    if not site.health["trigger"]:
        raise Failure("your table has no outlast_notify triggers, or they are disabled", REINSTALL)
    if not site.health["triggers_current"]:
        raise Failure("the triggers were made for other names, or are incomplete", REINSTALL)
    return "present and current"


async def sweep_index(site: CheckContext) -> str:
    """Without it a sweep reads the whole table."""
    if not site.health["sweep_index"]:
        raise Concern("the sweep has no index on your table, and reads all of it", REINSTALL)
    return "present"


async def realtime(site: CheckContext) -> str:
    """How a front end follows progress."""
    if not site.health["realtime"]:
        remedy = "alter publication supabase_realtime add table public.outlast_tasks, public.outlast_files;"
        raise Concern("Realtime does not tell of tasks and files", remedy)
    return "tells of tasks and files"


async def rest_schema(site: CheckContext) -> str:
    """Workers read rows over REST for large inline files, and for FAL's model id."""
    settings = site.settings
    params = {"select": settings.generations_output_column, "limit": "0"}
    profile = {"Accept-Profile": settings.generations_schema}
    answer = await site.http.get(f"/rest/v1/{settings.generations_table}", params=params, headers=profile)
    if not answer.is_error:
        return f"rows of {settings.generations_schema}.{settings.generations_table} can be read"
    schema, table = settings.generations_schema, settings.generations_table
    said = f"rows cannot be read ({error_code(answer)}), so inline files larger than 8 MiB fail"
    remedy = (
        f'expose the schema (Project settings, API) and: grant usage on schema "{schema}" to service_role; '
        f'grant select on "{schema}"."{table}" to service_role;'
    )
    raise Concern(said, remedy)


def _names(site: CheckContext) -> dict[str, str]:
    settings = site.settings
    columns = ("id", "user", "status", "output", "request", "created")
    return {
        "schema": settings.generations_schema,
        "table": settings.generations_table,
        **{name: str(getattr(settings, f"generations_{name}_column")) for name in columns},
        "completed": settings.generations_completed_value,
    }


def _some(names: list[Any]) -> str:
    """Return the first few of a list."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
