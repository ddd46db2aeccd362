"""Supabase Storage's HTTP API: one request over shared connections; what answers mean stands in `storage_reply`.

Spoken to directly, since storage3 neither streams nor resumes.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from handlers.database.http import CONNECT_SECONDS, ProjectApi
from handlers.errors import StorageUnavailableError
from handlers.observer import Observer
from handlers.storage.reply import StorageReply, read_reply
from handlers.storage.upload_file import READ_BYTES, FilePart

ROOT: Final = "/storage/v1"
UPSERT: Final = {False: {"x-upsert": "false"}, True: {"x-upsert": "true"}}


class StorageApi:
    """Sends requests to Storage, and notes how each ended."""

    def __init__(self, api: ProjectApi, observer: Observer) -> None:
        self._api = api
        self._observer = observer

    async def send(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: FilePart | dict[str, Any] | None = None,
    ) -> StorageReply:
        """Send one request, with part of a file or JSON as its body; `operation` is its name in the metric.

        Raises:
            StorageUnavailableError: no answer came.
        """
        with self._noting(operation):
            async with self._request(method, path, headers, body) as response:
                reply = await read_reply(response)
        self._observer.storage(operation, reply.outcome)
        return reply

    async def read(self, path: str) -> AsyncGenerator[bytes]:
        """Yield an object's bytes. Raises StorageUnavailableError, also in between, and StorageRejectedError."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=self._api.timeout)
        with self._noting("download"):
            async with self._request("GET", path, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    reply = await read_reply(response)
                    self._observer.storage("download", reply.outcome)
                    raise reply.error()
                async for piece in response.content.iter_chunked(READ_BYTES):
                    yield piece
        self._observer.storage("download", "ok")

    @contextlib.contextmanager
    def _noting(self, operation: str) -> Iterator[None]:
        """Turn what aiohttp raises into our error tree."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError) as error:
            self._observer.storage(operation, "unavailable")
            raise StorageUnavailableError(f"{operation}: {type(error).__name__} at SUPABASE_URL") from error

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: FilePart | dict[str, Any] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.client._RequestContextManager:
        own: dict[str, Any] = {}
        if isinstance(body, FilePart):
            # Without its length a body would be sent in chunks, and slip past the bucket's size limit.
            headers = {**(headers or {}), "Content-Length": str(body.size)}
            own["data"] = body.body
        elif body is not None:
            own["json"] = body
        return self._api.request(method, ROOT + quote(path), headers, timeout, **own)
