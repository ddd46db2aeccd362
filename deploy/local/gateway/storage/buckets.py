"""`/storage/v1/bucket`: creating, reading, updating and deleting buckets."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from aiohttp import web

from deploy.local.gateway.database import Database
from deploy.local.gateway.rest_errors import json_response
from deploy.local.gateway.storage.errors import (
    BUCKET_EXISTS,
    NO_BUCKET,
    NOT_EMPTY,
    StorageApiError,
    invalid_request,
)
from deploy.local.gateway.storage.files import ObjectFiles
from deploy.local.gateway.tokens import Caller

# The characters that Storage allows, but no leading dot: a bucket is a folder here, so the name `..` must not match.
BUCKET_NAME: Final = re.compile(r"(?!\.)[\w!\-.*'() &$@=;:+,?]+", re.ASCII)
SIZE_UNITS: Final = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?B)?", re.IGNORECASE)


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in the request's body. Raises StorageApiError when the body is not one."""
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError:
        raise invalid_request("Body is not valid JSON but content-type is set to 'application/json'") from None
    if not isinstance(body, dict):
        raise invalid_request("body must be object")
    return body


def format_time(moment: datetime) -> str:
    """Return a time in ISO 8601 with milliseconds and `Z`, the format of JavaScript's toISOString."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def bucket_json(row: Mapping[str, Any], *, listed: bool = False) -> dict[str, Any]:
    """Return the JSON of a bucket. In the list of buckets Storage adds a type."""
    return {
        "id": row["id"],
        "name": row["name"],
        "owner": "",
        "public": row["public"],
        **({"type": "STANDARD"} if listed else {}),
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": format_time(row["created_at"]),
        "updated_at": format_time(row["updated_at"]),
    }


async def find_bucket(connection: asyncpg.Connection, bucket: str) -> asyncpg.Record:
    """Return a bucket's row, if the connection's role may see it. Raises StorageApiError when there is none."""
    row = await connection.fetchrow("select * from storage.buckets where id = $1", bucket)
    if row is None:
        raise StorageApiError(*NO_BUCKET)
    return row


def _size_limit(value: object) -> int | None:
    """Return `file_size_limit` in bytes; the request has bytes, or text such as `50MB`."""
    if value is None:
        return None
    match = SIZE.fullmatch(str(value).strip())
    if match is None:
        raise invalid_request("body/file_size_limit must be integer or a size such as 50MB")
    return int(float(match[1]) * SIZE_UNITS[(match[2] or "").upper()])


class Buckets:
    """Handlers of the bucket routes."""

    def __init__(self, database: Database, files: ObjectFiles) -> None:
        self._database = database
        self._files = files

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a bucket."""
        body = await read_json(request)
        name = body.get("id") or body.get("name")
        if not isinstance(name, str) or BUCKET_NAME.fullmatch(name) is None:
            raise StorageApiError(400, "InvalidBucketName", "Bucket name invalid", "InvalidBucketName")
        async with self._database.transaction(caller) as connection:
            try:
                await connection.execute(
                    "insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) "
                    "values ($1, $2, $3, $4, $5)",
                    name,
                    body.get("name") or name,
                    bool(body.get("public")),
                    _size_limit(body.get("file_size_limit")),
                    body.get("allowed_mime_types"),
                )
            except asyncpg.UniqueViolationError:
                raise StorageApiError(*BUCKET_EXISTS) from None
        return json_response({"name": name})

    async def read(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one bucket."""
        async with self._database.transaction(caller) as connection:
            return json_response(bucket_json(await find_bucket(connection, request.match_info["bucket"])))

    async def list(self, _: web.Request, caller: Caller) -> web.Response:
        """Return all buckets that the caller may see."""
        async with self._database.transaction(caller) as connection:
            rows = await connection.fetch("select * from storage.buckets order by created_at, id")
        return json_response([bucket_json(row, listed=True) for row in rows])

    async def update(self, request: web.Request, caller: Caller) -> web.Response:
        """Change the properties that the body names."""
        body = await read_json(request)
        async with self._database.transaction(caller) as connection:
            row = await find_bucket(connection, request.match_info["bucket"])
            new = {
                **row,
                **{name: body[name] for name in ("public", "file_size_limit", "allowed_mime_types") if name in body},
            }
            await connection.execute(
                "update storage.buckets set public = $2, file_size_limit = $3, allowed_mime_types = $4, "
                "updated_at = now() where id = $1",
                row["id"],
                bool(new["public"]),
                _size_limit(new["file_size_limit"]),
                new["allowed_mime_types"],
            )
        return json_response({"message": "Successfully updated"})

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete an empty bucket."""
        async with self._database.transaction(caller) as connection:
            row = await find_bucket(connection, request.match_info["bucket"])
            if await connection.fetchval("select exists (select from storage.objects where bucket_id = $1)", row["id"]):
                raise StorageApiError(*NOT_EMPTY)
            await connection.execute("delete from storage.buckets where id = $1", row["id"])
        return json_response({"message": "Successfully deleted"})

    async def empty(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete every object in a bucket."""
        async with self._database.transaction(caller) as connection:
            row = await find_bucket(connection, request.match_info["bucket"])
            deleted = await connection.fetch(
                "delete from storage.objects where bucket_id = $1 returning name", row["id"]
            )
            for found in deleted:
                self._files.remove(row["id"], found["name"])
        return json_response({"message": "Successfully emptied"})
