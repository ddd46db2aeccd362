"""Rules and rows of objects: names, limits, and the one transaction that puts an object in its place."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg

from deploy.local.gateway.access import Caller
from deploy.local.gateway.buckets import NAME, find_bucket, shown_time
from deploy.local.gateway.database import Database
from deploy.local.gateway.files import Files
from deploy.local.gateway.storage_errors import (
    NO_BUCKET,
    NO_CONTENT,
    NO_OBJECT,
    NOT_ALLOWED,
    OBJECT_EXISTS,
    TOO_LARGE,
    StorageRefusal,
    invalid_key,
    unsupported_type,
)

KEY: Final = re.compile(r"[\w/!\-.*'() &$@=;:+,?]+", re.ASCII)
STANDARD_LIMIT: Final = 50 * 1024**2


@dataclass(frozen=True, slots=True)
class Received:
    """A whole file, and what its row will say of it."""

    path: Path
    size: int
    etag: str
    content_type: str
    cache_control: str
    user_metadata: dict[str, Any] | None
    version: str

    @classmethod
    def version_name(cls) -> str:
        """Return a new version."""
        return str(uuid4())

    def metadata(self) -> dict[str, Any]:
        """Return what Storage keeps of every file."""
        return {
            "eTag": self.etag,
            "size": self.size,
            "mimetype": self.content_type,
            "cacheControl": self.cache_control,
            "lastModified": shown_time(datetime.now(UTC)),
            "contentLength": self.size,
            "httpStatusCode": 200,
        }


def check_names(bucket: str, key: str) -> None:
    """Refuse names that Storage does not take, and those that would leave the bucket's folder."""
    if NAME.fullmatch(bucket) is None:
        raise StorageRefusal(*NO_BUCKET)
    if not key or key.endswith("/"):
        raise StorageRefusal(*NO_CONTENT)
    if KEY.fullmatch(key) is None or any(part in {"", ".", ".."} for part in key.split("/")):
        raise invalid_key(key)


def check_rules(bucket: Mapping[str, Any], content_type: str, size: int | None, limit: int = STANDARD_LIMIT) -> int:
    """Refuse a type or a declared size against the bucket's rules; return how many bytes may come."""
    allowed = bucket["allowed_mime_types"]
    if allowed and not any(_fits(content_type, rule) for rule in allowed):
        raise unsupported_type(content_type)
    most = min(limit, bucket["file_size_limit"] or limit)
    if size is not None and size > most:
        raise StorageRefusal(*TOO_LARGE)
    return most


def _fits(content_type: str, rule: str) -> bool:
    """Types are compared exactly; `image/*` stands for all images."""
    kind, _, rest = rule.partition("/")
    return rule in {"*", "*/*", content_type} or (rest == "*" and content_type.startswith(f"{kind}/"))


class Objects:
    """The objects of one project: rows in `storage.objects`, bytes in a folder."""

    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self.files = files

    async def bucket(self, bucket: str) -> asyncpg.Record:
        """Return a bucket's row, whoever asks; StorageRefusal when there is none."""
        async with self._database.statement() as connection:
            return await find_bucket(connection, bucket)

    async def find(self, caller: Caller | None, bucket: str, key: str) -> asyncpg.Record:
        """Return an object's row as the caller sees it (None: as the superuser does)."""
        await self.bucket(bucket)
        async with self._database.statement(caller) as connection:
            row = await connection.fetchrow(
                "select * from storage.objects where bucket_id = $1 and name = $2", bucket, key
            )
        if row is None:
            raise StorageRefusal(*NO_OBJECT)
        return row

    async def check_may_write(self, caller: Caller, bucket: str, key: str, *, upsert: bool) -> None:
        """Refuse, before any byte is read, who may not write here, or what exists.

        Only a check, as in the real API: two that write a new object at once both pass.
        """
        async with self._database.statement(caller) as connection:
            probe = connection.transaction()
            await probe.start()
            try:
                await _insert(connection, bucket, key, None, upsert=upsert)
            except asyncpg.UniqueViolationError:
                raise StorageRefusal(*OBJECT_EXISTS) from None
            except asyncpg.InsufficientPrivilegeError:
                raise StorageRefusal(*NOT_ALLOWED) from None
            finally:
                await probe.rollback()

    async def put(self, bucket: str, key: str, received: Received) -> str:
        """Put a received file in its place and write its row; return the object's id.

        The row is locked first, so that of several writers the last one's row and bytes stand together.
        """
        async with self._database.transaction() as connection:
            found = await _insert(connection, bucket, key, received, upsert=True)
            self.files.place(received.path, bucket, key)
        return str(found)

    async def remove(self, caller: Caller, bucket: str, keys: list[str]) -> list[asyncpg.Record]:
        """Remove objects the caller may remove; return their rows."""
        async with self._database.transaction(caller) as connection:
            gone = await connection.fetch(
                "delete from storage.objects where bucket_id = $1 and name = any ($2) returning *", bucket, keys
            )
            for row in gone:
                self.files.remove(bucket, row["name"])
        return list(gone)

    async def relocate(self, caller: Caller, bucket: str, source: str, target: str, *, copy: bool) -> asyncpg.Record:
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
                row = await connection.fetchrow(statement, bucket, source, target, Received.version_name())
            except asyncpg.UniqueViolationError:
                raise StorageRefusal(*OBJECT_EXISTS) from None
            if row is None:
                raise StorageRefusal(*NO_OBJECT)
            (self.files.copy if copy else self.files.move)(bucket, source, target)
        return row


async def _insert(
    connection: asyncpg.Connection, bucket: str, key: str, received: Received | None, *, upsert: bool
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
