"""Sends requests to Supabase Storage's HTTP API over shared connections. `reply.py` interprets the answers.

storage3, the official client, neither streams nor resumes uploads.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from handlers.database.http import CONNECT_SECONDS, ProjectApi
from handlers.errors import StorageUnavailableError
from handlers.network import failure_text
from handlers.observer import Observer
from handlers.storage.reply import StorageReply, read_reply
from handlers.storage.upload_file import READ_BYTES, FilePart

ROOT: Final = "/storage/v1"
UPSERT: Final = {False: {"x-upsert": "false"}, True: {"x-upsert": "true"}}


class StorageApi:
    """Sends requests to Storage and reports the outcome of each to the observer."""

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
        """Send one request, with a part of a file or JSON as its body.

        `operation` is the label of the request in the metric `outlast_storage_requests_total`.

        Raises:
            StorageUnavailableError: there is no answer.
        """
        with self._translated_errors(operation):
            async with self._request(method, path, headers, body) as response:
                reply = await read_reply(response)
        self._observer.storage(operation, reply.outcome)
        return reply

    async def read(self, path: str) -> AsyncGenerator[bytes]:
        """Yield an object's bytes.

        Raises:
            StorageRejectedError: the object is missing, or access is refused.
            StorageUnavailableError: Storage did not answer or deliver the object this time.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=self._api.timeout)
        with self._translated_errors("download"):
            async with self._request("GET", path, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    reply = await read_reply(response)
                    self._observer.storage("download", reply.outcome)
                    raise reply.error()
                async for piece in response.content.iter_chunked(READ_BYTES):
                    yield piece
        self._observer.storage("download", "ok")

    @contextlib.contextmanager
    def _translated_errors(self, operation: str) -> Iterator[None]:
        """Translate aiohttp's exceptions into our error tree, and report them to the observer."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError) as error:
            self._observer.storage(operation, "unavailable")
            raise StorageUnavailableError(f"{operation}: {failure_text(error)} at SUPABASE_URL") from error

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: FilePart | dict[str, Any] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.client._RequestContextManager:
        arguments: dict[str, Any] = {}
        if isinstance(body, FilePart):
            # Without a Content-Length the body is sent chunked, and Storage does not enforce the bucket's size limit.
            headers = {**(headers or {}), "Content-Length": str(body.size)}
            arguments["data"] = body.body
        elif body is not None:
            arguments["json"] = body
        return self._api.request(method, ROOT + quote(path), headers, timeout, **arguments)
