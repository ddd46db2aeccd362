"""`/rest/v1/rpc/<function>`: calls a function with JSON arguments by name, typed from the catalogue."""

import json
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.access import Caller
from deploy.local.gateway.database import Database, quoted
from deploy.local.gateway.rest import read_body
from deploy.local.gateway.rest_errors import RestError

OVERLOADS: Final = """
    select p.oid, p.proretset as many, p.prorettype = 'void'::regtype as nothing,
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
    """One overload: its arguments' types by name, how many of them it cannot do without, what it returns."""

    arguments: dict[str, str]
    required: int
    many: bool
    nothing: bool
    composite: bool

    def takes(self, given: set[str]) -> bool:
        """Whether it can be called with these arguments."""
        needed = list(self.arguments)[: self.required]
        return given <= set(self.arguments) and set(needed) <= given


class Functions:
    """Handler of the function route. What the catalogue said of a function holds until a call of it fails."""

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
                text = await connection.fetchval(_call(name, function, arguments), json.dumps(arguments))
            except asyncpg.PostgresError:
                self._overloads.pop(name, None)
                raise
        if function.nothing:
            return web.Response(status=204)
        return web.Response(text=text or "null", content_type="application/json", charset="utf-8")

    async def _find(self, connection: asyncpg.Connection, name: str, given: set[str]) -> Function:
        known = [function for function in self._overloads.get(name, ()) if function.takes(given)]
        if len(known) == 1:
            return known[0]
        self._overloads[name] = await _look_up(connection, name)
        fitting = [function for function in self._overloads[name] if function.takes(given)]
        if len(fitting) > 1:
            message = f"Could not choose the best candidate function between overloads of public.{name}"
            raise RestError(300, "PGRST203", message)
        if not fitting:
            raise _unknown(name, sorted(given))
        return fitting[0]


async def _look_up(connection: asyncpg.Connection, name: str) -> list[Function]:
    return [
        Function(
            dict(zip(row["names"], row["types"], strict=False)),
            row["required"],
            row["many"],
            row["nothing"],
            row["composite"],
        )
        for row in await connection.fetch(OVERLOADS, name)
    ]


def _unknown(name: str, arguments: list[str]) -> RestError:
    shown = f"({', '.join(arguments)})" if arguments else " without parameters"
    searched = f"with parameters {', '.join(arguments)}" if arguments else "without parameters"
    return RestError(
        404,
        "PGRST202",
        f"Could not find the function public.{name}{shown} in the schema cache",
        details=f"Searched for the function public.{name} {searched}, but no matches were found in the schema cache.",
    )


def _call(name: str, function: Function, arguments: dict[str, Any]) -> str:
    """Return the SQL that calls the function with $1, a JSON object, and gives JSON text back."""
    passed = ", ".join(f"{quoted(key)} := a.{quoted(key)}" for key in arguments)
    call = f"public.{quoted(name)}({passed})"
    columns = ", ".join(f"{quoted(key)} {function.arguments[key]}" for key in arguments)
    # json_to_record needs a column; with no arguments there is one that nobody uses.
    source = f"json_to_record($1::text::json) as a({columns or '_ text'})"
    if function.nothing:
        return f"select {call}::text from {source}"  # noqa: S608 - quoted
    if function.many and function.composite:
        return f"select coalesce(json_agg(r), '[]')::text from (select r.* from {source}, lateral {call} as r) r"  # noqa: S608 - quoted
    if function.many:
        return f"select coalesce(json_agg(r.r), '[]')::text from {source}, lateral {call} as r(r)"  # noqa: S608 - quoted
    return f"select to_json({call})::text from {source}"  # noqa: S608 - quoted
