"""What an upload sends: a raw body with headers, or a form as Supabase's own clients send it."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import BodyPartReader, web

from deploy.local.gateway.storage_errors import NO_CONTENT, NO_TYPE, StorageRefusal, invalid_request

CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Incoming:
    """An upload before its bytes. `size` is what the client declared, if it did; `form` whether bytes are counted."""

    content_type: str
    cache_control: str
    metadata: dict[str, Any]
    chunks: AsyncIterator[bytes]
    size: int | None
    form: bool


async def read_incoming(request: web.Request) -> Incoming:
    """Read an upload up to its first byte; StorageRefusal when there is none."""
    content_type = request.headers.get("Content-Type", "")
    if not content_type:
        raise StorageRefusal(*NO_TYPE)
    if content_type.lower().startswith("multipart/form-data"):
        return await _read_form(request)
    return Incoming(
        content_type,
        request.headers.get("Cache-Control", "no-cache"),
        read_metadata(request.headers.get("x-metadata")),
        request.content.iter_chunked(CHUNK),
        request.content_length,
        form=False,
    )


async def _read_form(request: web.Request) -> Incoming:
    """Read the fields up to the file: Supabase's clients send it last."""
    fields: dict[str, str] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise invalid_request("nested forms are not supported")
        if part.filename is None:
            fields[part.name or ""] = await part.text()
            continue
        cache = fields.get("cacheControl")
        return Incoming(
            _bare(part.headers.get("Content-Type", "application/octet-stream")),
            f"max-age={cache}" if cache else "no-cache",
            _json_object(fields.get("metadata")),
            _part_chunks(part),
            None,
            form=True,
        )
    raise StorageRefusal(*NO_CONTENT)


async def _part_chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK):
        yield bytes(chunk)


def _bare(content_type: str) -> str:
    """Drop the parameters of a part's type, as the real form parser does; those of a raw body are kept."""
    return content_type.partition(";")[0].strip()


def read_metadata(text: str | None) -> dict[str, Any]:
    """Read the custom metadata of a raw or resumable upload: JSON in base64."""
    try:
        return _json_object(base64.b64decode(text).decode()) if text else {}
    except ValueError:
        raise invalid_request("x-metadata must be JSON in base64") from None


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise invalid_request("metadata must be a JSON object")
    return value
