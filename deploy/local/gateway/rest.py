"""`/rest/v1/<table>`: reading and writing rows with the API of PostgREST. PostgreSQL itself produces the JSON."""

import json
from typing import Any, Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.database import Database, quoted
from deploy.local.gateway.query import Query, Table, find_table, read_query
from deploy.local.gateway.rest_errors import RestError
from deploy.local.gateway.tokens import Caller

SINGLE: Final = "application/vnd.pgrst.object+json"


async def read_body(request: web.Request) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value in the request's body. Raises RestError when it is not JSON."""
    try:
        return json.loads(await request.read() or b"{}")
    except ValueError:
        raise RestError(400, "PGRST102", "Empty or invalid json") from None


class Tables:
    """Handlers of the table routes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, request: web.Request, caller: Caller) -> web.Response:
        """Handle one request for a table. Raises RestError, asyncpg.PostgresError, DatabaseDownError."""
        handler = {
            "GET": self._read,
            "HEAD": self._read,
            "POST": self._insert,
            "PATCH": self._update,
            "DELETE": self._delete,
        }.get(request.method)
        if handler is None:
            raise RestError(405, "PGRST117", f"Unsupported HTTP method: {request.method}")
        async with self._database.transaction(caller) as connection:
            table = await find_table(connection, request.match_info["table"])
            return await handler(request, connection, table)

    async def _read(self, request: web.Request, connection: asyncpg.Connection, table: Table) -> web.Response:
        query = read_query(table, list(request.query.items()))
        inner = f"select {query.select} from {table.sql} t{query.where}{query.order}{query.page}"  # noqa: S608 - quoted
        text, count = await _fetch_json(connection, inner, query)
        total = None
        if "count" in _preferences(request):
            count_all = f"select count(*) from {table.sql} t{query.where}"  # noqa: S608 - quoted
            total = await connection.fetchval(count_all, *query.parameters)
        first = int(request.query.get("offset", "0"))
        partial = total is not None and count < total
        return _rows_response(
            request, text, count, status=206 if partial else 200, content_range=_content_range(first, count, total)
        )

    async def _insert(self, request: web.Request, connection: asyncpg.Connection, table: Table) -> web.Response:
        body = await read_body(request)
        rows = body if isinstance(body, list) else [body]
        names = _written_columns(request, table, rows)
        preferences = _preferences(request)
        conflict = _on_conflict(table, names, request.query.get("on_conflict"), preferences.get("resolution"))
        columns = ", ".join(quoted(name) for name in names)
        if rows and not names:
            source, body_text = "default values", None
        else:
            source = f"({columns})" if names else ""
            source += f" select {columns or '*'} from json_populate_recordset(null::{table.sql}, $1::text::json)"  # noqa: S608 - quoted
            body_text = json.dumps(rows)
        query = read_query(table, _query_argument(request, "select"), body_text)
        statement = f"insert into {table.sql} as t {source}{conflict}"
        return await _write(request, connection, query, statement, created=True)

    async def _update(self, request: web.Request, connection: asyncpg.Connection, table: Table) -> web.Response:
        body = await read_body(request)
        names = _written_columns(request, table, [body])
        query = read_query(table, list(request.query.items()), json.dumps(body))
        _require_filter(query, "UPDATE")
        if not names:
            return web.Response(status=204)
        changes = ", ".join(f"{quoted(name)} = b.{quoted(name)}" for name in names)
        source = f"json_populate_record(null::{table.sql}, $1::text::json) b"
        statement = f"update {table.sql} t set {changes} from {source}{query.where}"  # noqa: S608 - quoted
        return await _write(request, connection, query, statement)

    async def _delete(self, request: web.Request, connection: asyncpg.Connection, table: Table) -> web.Response:
        query = read_query(table, list(request.query.items()))
        _require_filter(query, "DELETE")
        return await _write(request, connection, query, f"delete from {table.sql} t{query.where}")  # noqa: S608 - quoted


async def _write(
    request: web.Request, connection: asyncpg.Connection, query: Query, statement: str, *, created: bool = False
) -> web.Response:
    """Run a statement that changes rows. Rows are returned only on request, because that needs the SELECT privilege."""
    if _preferences(request).get("return") != "representation":
        await connection.execute(statement, *query.parameters)
        return web.Response(status=201 if created else 204, headers={"Content-Range": "*/*"})
    text, count = await _fetch_json(connection, f"{statement} returning {query.select}", query)
    return _rows_response(request, text, count, status=201 if created else 200, content_range="*/*")


async def _fetch_json(connection: asyncpg.Connection, statement: str, query: Query) -> tuple[str, int]:
    outer = f"with r as ({statement}) select coalesce(json_agg(r), '[]')::text, count(*) from r"  # noqa: S608 - quoted
    row = await connection.fetchrow(outer, *query.parameters)
    return row[0], row[1]


def _rows_response(request: web.Request, text: str, count: int, *, status: int, content_range: str) -> web.Response:
    """Return rows, or one object when the client accepts only that.

    Raises RestError when there is not exactly one row, so that the transaction is rolled back.
    """
    if SINGLE in request.headers.get("Accept", ""):
        if count != 1:
            details = f"The result contains {count} rows"
            raise RestError(406, "PGRST116", "Cannot coerce the result to a single JSON object", details=details)
        text = json.dumps(json.loads(text)[0], ensure_ascii=False)
    headers = {"Content-Range": content_range}
    return web.Response(text=text, status=status, headers=headers, content_type="application/json", charset="utf-8")


def _content_range(first: int, count: int, total: int | None) -> str:
    """Return the header Content-Range, such as `0-9/25` or `*/0`; the total is `*` when no count was requested."""
    rows = f"{first}-{first + count - 1}" if count else "*"
    return f"{rows}/{'*' if total is None else total}"


def _preferences(request: web.Request) -> dict[str, str]:
    """Return the values of the Prefer headers, such as `{"return": "minimal"}`."""
    words = ",".join(request.headers.getall("Prefer", [])).split(",")
    return {name.strip(): value.strip() for name, _, value in (word.partition("=") for word in words) if value}


def _query_argument(request: web.Request, name: str) -> list[tuple[str, str]]:
    return [(name, request.query[name])] if name in request.query else []


def _written_columns(request: web.Request, table: Table, rows: list[Any]) -> list[str]:
    """Return the columns that the body writes. Raises RestError for an unknown column, or rows with different keys."""
    if not all(isinstance(row, dict) for row in rows):
        raise RestError(400, "PGRST102", "Empty or invalid json")
    given = request.query.get("columns")
    if given is not None:
        names = [name.strip().strip('"') for name in given.split(",") if name.strip()]
    else:
        names = list(rows[0]) if rows else []
        if any(set(row) != set(names) for row in rows):
            raise RestError(400, "PGRST102", "All object keys must match")
    for name in names:
        if name not in table.columns:
            message = f"Could not find the '{name}' column of '{table.name}' in the schema cache"
            raise RestError(400, "PGRST204", message)
    return names


def _on_conflict(table: Table, names: list[str], target: str | None, resolution: str | None) -> str:
    if resolution is None:
        return ""
    keys = [name.strip() for name in target.split(",")] if target else list(table.key)
    for key in keys:
        table.column(key)
    where = f" on conflict ({', '.join(quoted(key) for key in keys)})"
    if resolution == "ignore-duplicates":
        return f"{where} do nothing"
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names)
    return f"{where} do update set {changes}"


def _require_filter(query: Query, verb: str) -> None:
    """Raise RestError for a change of all rows: Supabase loads the extension pg-safeupdate for its API."""
    if not query.conditions:
        raise RestError(400, "21000", f"{verb} requires a WHERE clause")
