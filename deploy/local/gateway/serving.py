"""Sending an object's bytes: whole, a range, or nothing when the client has them already."""

from email.utils import format_datetime
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web

from deploy.local.gateway.replies import no_object

CHUNK = 256 * 1024
INVALID_RANGE = {
    "statusCode": "416",
    "error": "invalid_range",
    "message": "invalid range provided",
    "code": "InvalidRange",
}


async def send(request: web.Request, file: Path, row: dict[str, Any]) -> web.StreamResponse:
    """Answer a GET or HEAD for the object of this row."""
    metadata, size = row["metadata"], row["metadata"]["size"]
    headers = {
        "Content-Type": metadata["mimetype"],
        "Accept-Ranges": "bytes",
        "ETag": metadata["eTag"],
        "Last-Modified": format_datetime(row["updated_at"], usegmt=True),
        "Cache-Control": metadata["cacheControl"],
    }
    if request.headers.get("If-None-Match") == metadata["eTag"]:
        return web.Response(status=304, headers=headers)
    first, end, status = 0, size, 200
    if "Range" in request.headers:
        asked = _range(request, size)
        if asked is None:
            return web.json_response(INVALID_RANGE, status=416)
        first, end = asked
        status = 206
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - first)
    try:
        source = file.open("rb")
    except FileNotFoundError:
        raise no_object() from None
    response = web.StreamResponse(status=status, headers=headers)
    with source:
        await response.prepare(request)
        if request.method != "HEAD":
            source.seek(first)
            await _copy(source, end - first, response)
        await response.write_eof()
    return response


async def _copy(source: BinaryIO, left: int, response: web.StreamResponse) -> None:
    while left and (piece := source.read(min(CHUNK, left))):
        await response.write(piece)
        left -= len(piece)


def _range(request: web.Request, size: int) -> tuple[int, int] | None:
    """Return (first, end) of the one range asked for, None when it cannot be served."""
    try:
        asked = request.http_range
    except ValueError:
        return None
    first, end, _ = asked.indices(size)
    return (first, end) if first < end else None
