"""`/rest/v1/rpc/<function>`: calls a function with named JSON arguments, whose types are read from the catalogue."""

import json
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.database import Database, quoted
from deploy.local.gateway.rest import read_body
from deploy.local.gateway.rest_errors import RestError
from deploy.local.gateway.tokens import Caller

OVERLOADS: Final = """
    select p.oid, p.proretset as returns_set, p.prorettype = 'void'::regtype as returns_void,
           t.typtype = 'c' or t.typname = 'record' or coalesce(p.proargmodes && '{o,b,t}', false) as composite,
           p.pronargs - p.pronargdefaults as required,
           case when p.proargmodes is null then coalesce(p.proargnames[1:p.pronargs], '{}') else array(
             select name from unnest(p.proargnames, p.proargmodes) with ordinality u (name, mode, place)
             where mode in ('i', 'b') order by place
           ) end as names,
           array(select format_type(oid, null) from unnest(p.proargtypes::oid[]) with ordinality u (oid, place)
                 order by place) as types
    from pg_proc p join pg_type t on t.oid = p.prorettype
    where p.pronamespace = 'public'::regnamespace and p.proname = $1 and p.prokind = 'f'
      and p.provariadic = 0
"""


@dataclass(frozen=True, slots=True)
class Function:
    """One overload: argument types by name, the number of arguments without a default, and the kind of result."""

    arguments: dict[str, str]
    required: int
    returns_set: bool
    returns_void: bool
    composite: bool

    def accepts(self, given: set[str]) -> bool:
        """Whether the function can be called with arguments of these names."""
        mandatory = list(self.arguments)[: self.required]
        return given <= set(self.arguments) and set(mandatory) <= given


class Functions:
    """Handler of the function route. Overloads are cached until a call of the function fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._overloads: dict[str, list[Function]] = {}

    async def handle(self, request: web.Request, caller: Caller) -> web.Response:
        """Call a function. Raises RestError, asyncpg.PostgresError, DatabaseDownError."""
        name = request.match_info["function"]
        arguments = await read_body(request)
        if not isinstance(arguments, dict):
            raise RestError(400, "PGRST102", "Empty or invalid json")
        async with self._database.statement(caller) as connection:
            function = await self._find(connection, name, set(arguments))
            try:
                text = await connection.fetchval(_call_sql(name, function, arguments), json.dumps(arguments))
            except asyncpg.PostgresError:
                self._overloads.pop(name, None)
                raise
        if function.returns_void:
            return web.Response(status=204)
        return web.Response(text=text or "null", content_type="application/json", charset="utf-8")

    async def _find(self, connection: asyncpg.Connection, name: str, given: set[str]) -> Function:
        known = [function for function in self._overloads.get(name, ()) if function.accepts(given)]
        if len(known) == 1:
            return known[0]
        self._overloads[name] = await _read_overloads(connection, name)
        matching = [function for function in self._overloads[name] if function.accepts(given)]
        if len(matching) > 1:
            message = f"Could not choose the best candidate function between overloads of public.{name}"
            raise RestError(300, "PGRST203", message)
        if not matching:
            raise _function_not_found(name, sorted(given))
        return matching[0]


async def _read_overloads(connection: asyncpg.Connection, name: str) -> list[Function]:
    return [
        Function(
            dict(zip(row["names"], row["types"], strict=False)),
            row["required"],
            row["returns_set"],
            row["returns_void"],
            row["composite"],
        )
        for row in await connection.fetch(OVERLOADS, name)
    ]


def _function_not_found(name: str, arguments: list[str]) -> RestError:
    shown = f"({', '.join(arguments)})" if arguments else " without parameters"
    searched = f"with parameters {', '.join(arguments)}" if arguments else "without parameters"
    return RestError(
        404,
        "PGRST202",
        f"Could not find the function public.{name}{shown} in the schema cache",
        details=f"Searched for the function public.{name} {searched}, but no matches were found in the schema cache.",
    )


def _call_sql(name: str, function: Function, arguments: dict[str, Any]) -> str:
    """Return the SQL that calls the function with the arguments in $1, a JSON object, and returns JSON text."""
    passed = ", ".join(f"{quoted(key)} := a.{quoted(key)}" for key in arguments)
    call = f"public.{quoted(name)}({passed})"
    columns = ", ".join(f"{quoted(key)} {function.arguments[key]}" for key in arguments)
    # json_to_record needs at least one column, so without arguments an unused one is declared.
    source = f"json_to_record($1::text::json) as a({columns or '_ text'})"
    if function.returns_void:
        return f"select {call}::text from {source}"  # noqa: S608 - quoted
    if function.returns_set and function.composite:
        return f"select coalesce(json_agg(r), '[]')::text from (select r.* from {source}, lateral {call} as r) r"  # noqa: S608 - quoted
    if function.returns_set:
        return f"select coalesce(json_agg(r.r), '[]')::text from {source}, lateral {call} as r(r)"  # noqa: S608 - quoted
    return f"select to_json({call})::text from {source}"  # noqa: S608 - quoted
