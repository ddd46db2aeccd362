"""The sample source replaces FAL: it serves files, simulates failures, and signs webhooks as FAL does.

`GET /files/<name>` responds like a CDN (length, ETag, ranges). Options in the query simulate failures:

    status=503       responds with this status              retry_after=7    with this Retry-After header
    truncate=1000    closes the connection after 1000 bytes slow=65536       sends at this rate, in bytes per second
    stall=1          sends the headers, then nothing        redirect=<url>   responds with 302 to this URL
    length=no        chunked, without Content-Length        wrong_type=a/b   with this Content-Type
    fail_first=2     503 for the first two requests of this URL
    slow_first=1     `slow` applies to the first request of this URL only
    late=0.5         sends the body this many seconds after the headers

`GET /endless` never ends. `GET /.well-known/jwks.json` has the public key for the signatures of `sign`.
"""

import asyncio
import base64
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.local.fal_queue import FalQueue
from handlers.detect import detect

CHUNK_BYTES: Final = 16 * 1024
HEAD_BYTES: Final = 64 * 1024
FAL_USER: Final = "outlast-sample-source"
UNAVAILABLE: Final = 503
FIELDS: Final = {"image": "image", "video": "video", "audio": "audio", "model": "model_mesh"}


class Source:
    """An HTTP server on 127.0.0.1 in the caller's event loop. `hits` counts the requests by file name.

    `queue` is the replacement for FAL's queue API on the same port.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.hits: Counter[str] = Counter()
        self._request_counts: Counter[str] = Counter()
        self.queue = FalQueue()
        self._port = port
        self._key = Ed25519PrivateKey.generate()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The base URL, after start."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start the server, with port 0 on a free port. Raises OSError when the port is in use."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/files/{name}", self._file),
                web.get("/endless", self._endless),
                web.get("/.well-known/jwks.json", self._jwks),
                *self.queue.routes(),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self._port)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop the server and close every connection, including stalled ones."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def file_url(self, name: str, **options: str | int) -> str:
        """Return the URL of a file, with options that simulate failures."""
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in options.items())
        return f"{self.url}/files/{quote(name)}" + (f"?{query}" if query else "")

    def output(self, names: Sequence[str], **options: str | int) -> dict[str, Any]:
        """Return a generation's output with these files, in the form of the output of FAL's models."""
        output: dict[str, Any] = {}
        for name in names:
            content_type = _content_type(self.folder / name)
            file = {
                "url": self.file_url(name, **options),
                "content_type": content_type,
                "file_name": name,
                "file_size": (self.folder / name).stat().st_size,
            }
            kind = content_type.partition("/")[0]
            if kind == "image":
                output.setdefault("images", []).append({**file, "width": None, "height": None})
            elif FIELDS.get(kind, "file") in output:
                output.setdefault("files", []).append(file)
            else:
                output[FIELDS.get(kind, "file")] = file
        return output

    def sign(
        self, body: bytes, request_id: str, user_id: str = FAL_USER, timestamp: int | None = None
    ) -> dict[str, str]:
        """Return the signature headers of a FAL webhook. `timestamp` is in epoch seconds, by default now."""
        stamp = str(int(time.time()) if timestamp is None else timestamp)
        message = "\n".join([request_id, user_id, stamp, hashlib.sha256(body).hexdigest()]).encode()
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": stamp,
            "X-Fal-Webhook-Signature": self._key.sign(message).hex(),
        }

    async def _jwks(self, _: web.Request) -> web.Response:
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
        return web.json_response({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "sample", "x": x}]})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name, options = request.match_info["name"], request.query
        self.hits[name] += 1
        if (error := self._error_response(request)) is not None:
            return error
        path = self.folder / name
        if Path(name).name != name or not path.is_file():
            raise web.HTTPNotFound(text=f"there is no {name}")
        first = self._request_counts[request.path_qs] <= int(options.get("slow_first", "0"))
        rate = int(options.get("slow", 0)) if first or "slow_first" not in options else 0
        if not rate and not options.keys() & {"truncate", "stall", "length", "wrong_type", "late"}:
            headers = {"Content-Type": _content_type(path), "Accept-Ranges": "bytes"}
            return web.FileResponse(path, headers=headers)
        content_type = options.get("wrong_type") or _content_type(path)
        return await _respond_with_failures(request, path.read_bytes(), content_type, rate)

    def _error_response(self, request: web.Request) -> web.Response | None:
        options = request.query
        status = int(options.get("status", 0))
        self._request_counts[request.path_qs] += 1
        if self._request_counts[request.path_qs] <= int(options.get("fail_first", 0)):
            status = UNAVAILABLE
        headers = {"Retry-After": options["retry_after"]} if "retry_after" in options else {}
        if status:
            return web.Response(status=status, headers=headers, text=f"status {status}, as requested")
        if "redirect" in options:
            return web.Response(status=302, headers={"Location": options["redirect"]})
        return None

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        self.hits["endless"] += 1
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        while True:
            await response.write(bytes(CHUNK_BYTES))


async def _respond_with_failures(
    request: web.Request, content: bytes, content_type: str, rate: int
) -> web.StreamResponse:
    """Serve the content with the failures that the query asks for. `rate` is in bytes per second; 0: no limit."""
    options = request.query
    response = web.StreamResponse(headers={"Content-Type": content_type})
    if options.get("length") == "no":
        response.enable_chunked_encoding()
    else:
        response.content_length = len(content)
    await response.prepare(request)
    if "stall" in options:
        await asyncio.Event().wait()
    await asyncio.sleep(float(options.get("late", 0)))
    chunk_bytes = max(1, min(CHUNK_BYTES, rate // 10)) if rate else CHUNK_BYTES
    sent = content[: int(options.get("truncate", len(content)))]
    for at in range(0, len(sent), chunk_bytes):
        await response.write(sent[at : at + chunk_bytes])
        if rate:
            await asyncio.sleep(chunk_bytes / rate)
    if len(sent) < len(content):
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write_eof()
    return response


def _content_type(path: Path) -> str:
    with path.open("rb") as file:
        return detect(file.read(HEAD_BYTES)).mime_type
