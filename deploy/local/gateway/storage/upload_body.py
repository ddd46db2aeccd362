"""The body of an upload request: raw bytes with headers, or the multipart form of Supabase's client libraries."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from deploy.local.gateway.storage.errors import NO_CONTENT, NO_TYPE, StorageApiError, invalid_request
from deploy.local.gateway.storage.files import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class UploadBody:
    """The properties of an upload, and its content as `chunks`. `size` is the declared size in bytes, or None."""

    content_type: str
    cache_control: str
    metadata: dict[str, Any]
    chunks: AsyncIterator[bytes]
    size: int | None
    form: bool


async def read_upload_body(request: web.Request) -> UploadBody:
    """Read the properties of an upload, but not its content. Raises StorageApiError when they are not valid."""
    content_type = request.headers.get("Content-Type", "")
    if not content_type:
        raise StorageApiError(*NO_TYPE)
    if content_type.lower().startswith("multipart/form-data"):
        return await _read_form(request)
    return UploadBody(
        content_type,
        request.headers.get("Cache-Control", "no-cache"),
        read_metadata(request.headers.get("x-metadata")),
        request.content.iter_chunked(CHUNK_BYTES),
        request.content_length,
        form=False,
    )


async def _read_form(request: web.Request) -> UploadBody:
    """Read the form's fields up to the file, which Supabase's clients send last."""
    fields: dict[str, str] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise invalid_request("nested forms are not supported")
        if part.filename is None:
            fields[part.name or ""] = await part.text()
            continue
        cache = fields.get("cacheControl")
        return UploadBody(
            _without_parameters(part.headers.get("Content-Type", "application/octet-stream")),
            f"max-age={cache}" if cache else "no-cache",
            _json_object(fields.get("metadata")),
            _part_chunks(part),
            None,
            form=True,
        )
    raise StorageApiError(*NO_CONTENT)


async def _part_chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK_BYTES):
        yield bytes(chunk)


def _without_parameters(content_type: str) -> str:
    """Remove the parameters from the content type of a form part, as the real API does (but not from a raw body's)."""
    return content_type.partition(";")[0].strip()


def read_metadata(text: str | None) -> dict[str, Any]:
    """Return the custom metadata of a raw or resumable upload: a JSON object in base64."""
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
