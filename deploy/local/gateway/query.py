"""Translates PostgREST query strings to SQL. Values become parameters, identifiers are quoted.

Every parameter is text, which PostgreSQL casts to the type of the column, like an untyped literal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from deploy.local.gateway.database import quoted
from deploy.local.gateway.rest_errors import RestError, parse_error

OPERATORS: Final = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "~~",
    "ilike": "~~*",
}
IS_VALUES: Final = {"null", "not_null", "true", "false", "unknown"}
RESERVED: Final = {"select", "order", "limit", "offset", "on_conflict", "columns"}
ORDERS: Final = {"asc": "asc", "desc": "desc", "nullsfirst": "nulls first", "nullslast": "nulls last"}
LIST_ITEM: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')

COLUMNS: Final = """
    select attname as name, format_type(atttypid, atttypmod) as type
    from pg_attribute
    where attrelid = to_regclass($1) and attnum > 0 and not attisdropped
"""
PRIMARY_KEY: Final = """
    select attname from pg_index join pg_attribute on attrelid = indrelid and attnum = any (indkey)
    where indrelid = to_regclass($1) and indisprimary
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the schema `public`: column types by column name, and the columns of the primary key."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The table's qualified and quoted name."""
        return f"public.{quoted(self.name)}"

    def column(self, name: str) -> str:
        """Return the SQL of a column. Raises RestError with PostgreSQL's own code when it does not exist."""
        if name not in self.columns:
            raise RestError(400, "42703", f"column {self.name}.{name} does not exist")
        return f"t.{quoted(name)}"


async def find_table(connection: asyncpg.Connection, name: str) -> Table:
    """Return a table from the catalogue. Raises RestError when it does not exist."""
    regclass = f"public.{quoted(name)}"
    columns = {row["name"]: row["type"] for row in await connection.fetch(COLUMNS, regclass)}
    if not columns:
        raise RestError(404, "PGRST205", f"Could not find the table 'public.{name}' in the schema cache")
    return Table(name, columns, tuple(row["attname"] for row in await connection.fetch(PRIMARY_KEY, regclass)))


@dataclass(slots=True)
class Query:
    """The parts of one SQL statement. `parameters` are the values of its placeholders `$1`, `$2` and so on."""

    table: Table
    parameters: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    select: str = "t.*"
    order: str = ""
    page: str = ""

    @property
    def where(self) -> str:
        """The WHERE clause, or an empty string."""
        return f" where {' and '.join(self.conditions)}" if self.conditions else ""

    def bind(self, value: str) -> str:
        """Add a parameter; return its placeholder."""
        self.parameters.append(value)
        return f"${len(self.parameters)}::text"


def read_query(table: Table, arguments: Sequence[tuple[str, str]], body: str | None = None) -> Query:
    """Translate a query string. `body` becomes the first parameter. Raises RestError when it cannot be parsed."""
    query = Query(table, [] if body is None else [body])
    for name, value in arguments:
        if name not in RESERVED:
            query.conditions.append(_condition(query, name, value))
    given = dict(arguments)
    query.select = _select(table, given.get("select", "*"))
    query.order = _order(table, given["order"]) if given.get("order") else ""
    query.page = "".join(f" {word} {_row_count(given[word])}" for word in ("limit", "offset") if word in given)
    return query


def _condition(query: Query, name: str, expression: str) -> str:
    column, typename = query.table.column(name), query.table.columns[name]
    operator, dot, value = expression.partition(".")
    if operator == "not" and dot:
        return f"not ({_condition(query, name, value)})"
    if operator == "is" and value.lower() in IS_VALUES:
        return f"{column} is {value.lower().replace('_', ' ')}"
    if operator == "in" and value.startswith("(") and value.endswith(")"):
        placeholders = ", ".join(f"{query.bind(item)}::{typename}" for item in _items(value[1:-1]))
        return f"{column} in ({placeholders})" if placeholders else "false"
    if operator in {"like", "ilike"}:
        return f"{column}::text {OPERATORS[operator]} {query.bind(value.replace('*', '%'))}"
    if operator in OPERATORS and dot:
        return f"{column} {OPERATORS[operator]} {query.bind(value)}::{typename}"
    raise parse_error(f"{name}={expression}")


def _items(text: str) -> list[str]:
    """Split a list such as `a,b,"c,d"`. Within quotes a backslash escapes the next character."""
    found = []
    position = 0
    while position < len(text):
        match = LIST_ITEM.match(text, position)
        if match is None or match.end() == position:
            raise parse_error(text)
        found.append(match[2].strip() if match[1] is None else re.sub(r"\\(.)", r"\1", match[1]))
        position = match.end()
    return found


def _select(table: Table, text: str) -> str:
    parts = []
    for item in text.split(","):
        label, _, name = item.strip().rpartition(":")
        if name == "*":
            parts.append("t.*")
        else:
            parts.append(table.column(name) + (f" as {quoted(label)}" if label else ""))
    return ", ".join(parts)


def _order(table: Table, text: str) -> str:
    terms = []
    for item in text.split(","):
        name, *words = item.strip().split(".")
        if any(word not in ORDERS for word in words):
            raise parse_error(f"order={text}")
        terms.append(" ".join([table.column(name), *(ORDERS[word] for word in words)]))
    return f" order by {', '.join(terms)}"


def _row_count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise parse_error(text)
    return int(text)
