"""Reads PostgREST's query strings and turns them into SQL. Values travel as parameters, identifiers are quoted.

Every parameter is text that PostgreSQL casts to the column's own type, as an untyped literal would be.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from deploy.local.gateway.database import quoted
from deploy.local.gateway.rest_errors import RestError, unparsed

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
TESTS: Final = {"null", "not_null", "true", "false", "unknown"}
RESERVED: Final = {"select", "order", "limit", "offset", "on_conflict", "columns"}
ORDERS: Final = {"asc": "asc", "desc": "desc", "nullsfirst": "nulls first", "nullslast": "nulls last"}
ITEM: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')

COLUMNS: Final = """
    select attname as name, format_type(atttypid, atttypmod) as type
    from pg_attribute
    where attrelid = to_regclass($1) and attnum > 0 and not attisdropped
"""
KEY: Final = """
    select attname from pg_index join pg_attribute on attrelid = indrelid and attnum = any (indkey)
    where indrelid = to_regclass($1) and indisprimary
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the exposed schema, as the catalogue knows it: columns by name, with their types."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The table's name in SQL."""
        return f"public.{quoted(self.name)}"

    def column(self, name: str) -> str:
        """Return a column in SQL; raise RestError, as PostgreSQL would, when there is none of that name."""
        if name not in self.columns:
            raise RestError(400, "42703", f"column {self.name}.{name} does not exist")
        return f"t.{quoted(name)}"


async def find_table(connection: asyncpg.Connection, name: str) -> Table:
    """Look a table up; raise RestError when the schema has none of that name."""
    regclass = f"public.{quoted(name)}"
    columns = {row["name"]: row["type"] for row in await connection.fetch(COLUMNS, regclass)}
    if not columns:
        raise RestError(404, "PGRST205", f"Could not find the table 'public.{name}' in the schema cache")
    return Table(name, columns, tuple(row["attname"] for row in await connection.fetch(KEY, regclass)))


@dataclass(slots=True)
class Query:
    """The parts of one statement; `parameters` belong to the $-numbers in it."""

    table: Table
    parameters: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    select: str = "t.*"
    tail: str = ""
    page: str = ""

    @property
    def where(self) -> str:
        """The WHERE clause, if any."""
        return f" where {' and '.join(self.conditions)}" if self.conditions else ""

    def bind(self, value: str) -> str:
        """Add a parameter; return its place in the statement."""
        self.parameters.append(value)
        return f"${len(self.parameters)}::text"


def read_query(table: Table, arguments: Sequence[tuple[str, str]], body: str | None = None) -> Query:
    """Return the parts that a query string asks for; `body` becomes the first parameter."""
    query = Query(table, [] if body is None else [body])
    for name, value in arguments:
        if name not in RESERVED:
            query.conditions.append(_condition(query, name, value))
    given = dict(arguments)
    query.select = _select(table, given.get("select", "*"))
    query.tail = _order(table, given["order"]) if given.get("order") else ""
    query.page = "".join(f" {word} {_number(given[word])}" for word in ("limit", "offset") if word in given)
    return query


def _condition(query: Query, name: str, expression: str) -> str:
    column, typename = query.table.column(name), query.table.columns[name]
    operator, dot, value = expression.partition(".")
    if operator == "not" and dot:
        return f"not ({_condition(query, name, value)})"
    if operator == "is" and value.lower() in TESTS:
        return f"{column} is {value.lower().replace('_', ' ')}"
    if operator == "in" and value.startswith("(") and value.endswith(")"):
        places = ", ".join(f"{query.bind(item)}::{typename}" for item in _items(value[1:-1]))
        return f"{column} in ({places})" if places else "false"
    if operator in {"like", "ilike"}:
        return f"{column}::text {OPERATORS[operator]} {query.bind(value.replace('*', '%'))}"
    if operator in OPERATORS and dot:
        return f"{column} {OPERATORS[operator]} {query.bind(value)}::{typename}"
    raise unparsed(f"{name}={expression}")


def _items(text: str) -> list[str]:
    """Split `a,b,"c,d"`; a backslash escapes within quotes."""
    found = []
    position = 0
    while position < len(text):
        match = ITEM.match(text, position)
        if match is None or match.end() == position:
            raise unparsed(text)
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
            raise unparsed(f"order={text}")
        terms.append(" ".join([table.column(name), *(ORDERS[word] for word in words)]))
    return f" order by {', '.join(terms)}"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise unparsed(text)
    return int(text)
