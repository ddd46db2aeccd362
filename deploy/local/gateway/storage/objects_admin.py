"""Routes that manage objects: list, delete, copy, move."""

import json
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.database import Database
from deploy.local.gateway.rest_errors import json_response
from deploy.local.gateway.storage.buckets import format_time, read_json
from deploy.local.gateway.storage.errors import NO_OBJECT, StorageApiError, invalid_request
from deploy.local.gateway.storage.objects import Objects
from deploy.local.gateway.tokens import Caller

TIMES: Final = ("updated_at", "created_at", "last_accessed_at")
SORTED: Final = ("name", *TIMES)
# As in the real API, names are sorted by their bytes, and a folder is sorted by its name with the slash.
LIST: Final = """
    with found as (
      select o.*, substr(o.name, length($2::text) + 1) as rest from storage.objects o
      where o.bucket_id = $1 and starts_with(o.name, $2)
    ), shown as (
      select rest as label, rest collate "C" as place, id, updated_at, created_at, last_accessed_at, metadata from found
      where strpos(rest, '/') = 0
      union all
      select distinct split_part(rest, '/', 1), split_part(rest, '/', 1) || '/' collate "C", null::uuid,
        null::timestamptz, null::timestamptz, null::timestamptz, null::jsonb
      from found where strpos(rest, '/') > 0
    )
    select label as name, id, updated_at, created_at, last_accessed_at, metadata from shown
    where starts_with(lower(label), lower($3::text))
    order by {column} {direction} nulls first, place limit $4 offset $5
"""


def object_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of an object's row, as in the responses to delete and copy."""
    return {
        "name": row["name"],
        "bucket_id": row["bucket_id"],
        "owner": "",
        "owner_id": "",
        "version": row["version"],
        "id": str(row["id"]),
        **{name: format_time(row[name]) for name in TIMES},
        "metadata": json.loads(row["metadata"]),
        "user_metadata": json.loads(row["user_metadata"]) if row["user_metadata"] else None,
    }


def _list_entry(row: asyncpg.Record) -> dict[str, Any]:
    """Return one entry of a listing. A folder has no id."""
    return {
        "name": row["name"],
        "id": str(row["id"]) if row["id"] else None,
        **{name: format_time(row[name]) if row[name] else None for name in TIMES},
        "metadata": json.loads(row["metadata"]) if row["metadata"] else None,
    }


class ObjectsAdmin:
    """Handlers of the routes that manage objects."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List one folder. The list is empty when it does not exist or the caller may not see it."""
        body = await read_json(request)
        folder = str(body.get("prefix") or "").strip("/")
        sort = body.get("sortBy") or {}
        column, direction = sort.get("column", "name"), sort.get("order", "asc")
        if column not in SORTED or direction not in {"asc", "desc"}:
            raise invalid_request("body/sortBy must name a column and asc or desc")
        statement = LIST.format(column="place" if column == "name" else column, direction=direction)
        async with self._database.transaction(caller) as connection:
            rows = await connection.fetch(
                statement,
                request.match_info["bucket"],
                f"{folder}/" if folder else "",
                str(body.get("search") or ""),
                int(body.get("limit") or 100),
                int(body.get("offset") or 0),
            )
        return json_response([_list_entry(row) for row in rows])

    async def remove_many(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete the named objects. Objects that do not exist, or that the caller may not delete, are skipped."""
        prefixes = (await read_json(request)).get("prefixes")
        if not isinstance(prefixes, list) or not all(isinstance(name, str) for name in prefixes):
            raise invalid_request("body must have required property 'prefixes'")
        if not prefixes:
            raise invalid_request("body/prefixes must NOT have fewer than 1 items")
        deleted = await self._objects.remove(caller, request.match_info["bucket"], prefixes)
        return json_response([object_json(row) for row in deleted])

    async def remove_one(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete one object."""
        if not await self._objects.remove(caller, request.match_info["bucket"], [request.match_info["path"]]):
            raise StorageApiError(*NO_OBJECT)
        return json_response({"message": "Successfully deleted"})

    async def copy(self, request: web.Request, caller: Caller) -> web.Response:
        """Copy an object to a new name in its bucket."""
        row = await self._copy_or_move(request, caller, copy=True)
        return json_response({"Key": f"{row['bucket_id']}/{row['name']}", "Id": str(row["id"]), **object_json(row)})

    async def move(self, request: web.Request, caller: Caller) -> web.Response:
        """Rename an object within its bucket."""
        await self._copy_or_move(request, caller, copy=False)
        return json_response({"message": "Successfully moved"})

    async def _copy_or_move(self, request: web.Request, caller: Caller, *, copy: bool) -> asyncpg.Record:
        body = await read_json(request)
        for name in ("bucketId", "sourceKey", "destinationKey"):
            if not isinstance(body.get(name), str):
                raise invalid_request(f"body must have required property '{name}'")
        names = (body["bucketId"], body["sourceKey"], body["destinationKey"])
        return await self._objects.copy_or_move(caller, *names, copy=copy)
