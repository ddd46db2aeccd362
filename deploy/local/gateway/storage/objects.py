"""Objects in the database: rules for names and sizes, and the transaction that stores the row and the file."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg

from deploy.local.gateway.database import Database
from deploy.local.gateway.storage.buckets import BUCKET_NAME, find_bucket, format_time
from deploy.local.gateway.storage.errors import (
    NO_BUCKET,
    NO_CONTENT,
    NO_OBJECT,
    NOT_ALLOWED,
    OBJECT_EXISTS,
    TOO_LARGE,
    StorageApiError,
    invalid_key,
    unsupported_type,
)
from deploy.local.gateway.storage.files import ObjectFiles
from deploy.local.gateway.tokens import Caller

OBJECT_NAME: Final = re.compile(r"[\w/!\-.*'() &$@=;:+,?]+", re.ASCII)
MAX_STANDARD_UPLOAD_BYTES: Final = 50 * 1024**2


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A completely received file, and the values for its row in storage.objects."""

    path: Path
    size: int
    etag: str
    content_type: str
    cache_control: str
    user_metadata: dict[str, Any] | None
    version: str

    @classmethod
    def new_version(cls) -> str:
        """Return a new version id."""
        return str(uuid4())

    def metadata(self) -> dict[str, Any]:
        """Return the value of the column `metadata`."""
        return {
            "eTag": self.etag,
            "size": self.size,
            "mimetype": self.content_type,
            "cacheControl": self.cache_control,
            "lastModified": format_time(datetime.now(UTC)),
            "contentLength": self.size,
            "httpStatusCode": 200,
        }


def check_names(bucket: str, key: str) -> None:
    """Raise StorageApiError for a name that Storage does not allow, or that would leave the bucket's folder."""
    if BUCKET_NAME.fullmatch(bucket) is None:
        raise StorageApiError(*NO_BUCKET)
    if not key or key.endswith("/"):
        raise StorageApiError(*NO_CONTENT)
    if OBJECT_NAME.fullmatch(key) is None or any(part in {"", ".", ".."} for part in key.split("/")):
        raise invalid_key(key)


def check_limits(
    bucket: Mapping[str, Any], content_type: str, size: int | None, limit: int = MAX_STANDARD_UPLOAD_BYTES
) -> int:
    """Return the largest allowed size in bytes. Raises StorageApiError for a type or size that is not allowed."""
    allowed = bucket["allowed_mime_types"]
    if allowed and not any(_matches(content_type, rule) for rule in allowed):
        raise unsupported_type(content_type)
    max_bytes = min(limit, bucket["file_size_limit"] or limit)
    if size is not None and size > max_bytes:
        raise StorageApiError(*TOO_LARGE)
    return max_bytes


def _matches(content_type: str, rule: str) -> bool:
    """Whether a MIME type matches a rule: the same type, `image/*` for all images, or `*/*`."""
    kind, _, rest = rule.partition("/")
    return rule in {"*", "*/*", content_type} or (rest == "*" and content_type.startswith(f"{kind}/"))


class Objects:
    """The objects of one project: rows in `storage.objects`, bytes in a folder."""

    def __init__(self, database: Database, files: ObjectFiles) -> None:
        self._database = database
        self.files = files

    async def bucket(self, bucket: str) -> asyncpg.Record:
        """Return a bucket's row, independent of the caller. Raises StorageApiError when there is none."""
        async with self._database.statement() as connection:
            return await find_bucket(connection, bucket)

    async def find(self, caller: Caller | None, bucket: str, key: str) -> asyncpg.Record:
        """Return an object's row, if the caller may see it; the superuser (None) sees all."""
        await self.bucket(bucket)
        async with self._database.statement(caller) as connection:
            row = await connection.fetchrow(
                "select * from storage.objects where bucket_id = $1 and name = $2", bucket, key
            )
        if row is None:
            raise StorageApiError(*NO_OBJECT)
        return row

    async def check_write_access(
        self, caller: Caller, bucket: str, key: str, *, upsert: bool, arrived: datetime | None = None
    ) -> None:
        """Raise StorageApiError when the caller may not write the object, or when it exists and `upsert` is not set.

        It runs before the body is read. As in the real API, concurrent requests for a new object all pass: an object
        that was created after the request `arrived` is no obstacle.
        """
        async with self._database.statement(caller) as connection:
            probe = connection.transaction()
            await probe.start()
            try:
                await _insert(connection, bucket, key, None, upsert=upsert)
            except asyncpg.UniqueViolationError:
                exists = True
            except asyncpg.InsufficientPrivilegeError:
                raise StorageApiError(*NOT_ALLOWED) from None
            else:
                exists = False
            finally:
                await probe.rollback()
        if exists and not (arrived and await self._was_created_after(arrived, bucket, key)):
            raise StorageApiError(*OBJECT_EXISTS)

    async def _was_created_after(self, time: datetime, bucket: str, key: str) -> bool:
        async with self._database.statement() as connection:
            created = await connection.fetchval(
                "select created_at from storage.objects where bucket_id = $1 and name = $2", bucket, key
            )
        return created is None or created > time

    async def put(self, bucket: str, key: str, received: ReceivedFile) -> str:
        """Write the object's row and move the file to its path; return the object's id.

        The row is locked first, so that with concurrent writers the row and the file are always those of the same one.
        """
        async with self._database.transaction() as connection:
            found = await _insert(connection, bucket, key, received, upsert=True)
            self.files.place(received.path, bucket, key)
        return str(found)

    async def remove(self, caller: Caller, bucket: str, keys: list[str]) -> list[asyncpg.Record]:
        """Delete the objects that the caller may delete; return their rows."""
        async with self._database.transaction(caller) as connection:
            deleted = await connection.fetch(
                "delete from storage.objects where bucket_id = $1 and name = any ($2) returning *", bucket, keys
            )
            for row in deleted:
                self.files.remove(bucket, row["name"])
        return list(deleted)

    async def copy_or_move(
        self, caller: Caller, bucket: str, source: str, target: str, *, copy: bool
    ) -> asyncpg.Record:
        """Copy or move an object within its bucket; return the new row."""
        check_names(bucket, target)
        await self.find(caller, bucket, source)
        statement = (
            "insert into storage.objects (bucket_id, name, metadata, user_metadata, version) select bucket_id, $3, "
            "metadata, user_metadata, $4 from storage.objects where bucket_id = $1 and name = $2 returning *"
            if copy
            else "update storage.objects set name = $3, version = $4, updated_at = now() "
            "where bucket_id = $1 and name = $2 returning *"
        )
        async with self._database.transaction(caller) as connection:
            try:
                row = await connection.fetchrow(statement, bucket, source, target, ReceivedFile.new_version())
            except asyncpg.UniqueViolationError:
                raise StorageApiError(*OBJECT_EXISTS) from None
            if row is None:
                raise StorageApiError(*NO_OBJECT)
            (self.files.copy if copy else self.files.move)(bucket, source, target)
        return row


async def _insert(
    connection: asyncpg.Connection, bucket: str, key: str, received: ReceivedFile | None, *, upsert: bool
) -> object:
    conflict = (
        "on conflict (bucket_id, name) do update set metadata = excluded.metadata, version = excluded.version, "
        "user_metadata = excluded.user_metadata, updated_at = now()"
    )
    return await connection.fetchval(
        "insert into storage.objects (bucket_id, name, metadata, user_metadata, version) values "  # noqa: S608 - fixed
        f"($1, $2, $3::text::jsonb, $4::text::jsonb, $5) {conflict if upsert else ''} returning id",
        bucket,
        key,
        json.dumps(received.metadata()) if received else None,
        json.dumps(received.user_metadata) if received and received.user_metadata is not None else None,
        received.version if received else None,
    )
