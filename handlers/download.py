"""Fetch a source file: streamed to disk, hashed on the way, never more than it may be."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote_to_bytes

import aiohttp
from yarl import URL

from handlers.answers import check_status
from handlers.errors import (
    FileCorruptedError,
    FileSizeExceededError,
    SourceForbiddenError,
    SourceUnavailableError,
)
from handlers.netguard import Allowlist, GuardedResolver
from handlers.observer import Observer
from handlers.settings import MediaSettings
from schemas.urls import is_data, shown

MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
PROBE_SECONDS: Final = 15.0

Progress = Callable[[int, int], None]
"""Called with (downloaded, total) bytes; total is what was downloaded so far while it is unknown."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A source file on disk: its size in bytes and its SHA-256 as hex."""

    path: Path
    size: int
    sha256: str


class Downloader:
    """Fetches files over one shared client session; close it with `aclose`."""

    def __init__(self, settings: MediaSettings, observer: Observer | None = None) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        self._allowlist = Allowlist(settings.source_allowlist)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The downloader opens new ones when it is used again."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(
        self, url: str, target: Path, max_size: int | None = None, progress: Progress | None = None
    ) -> Downloaded:
        """Write the file at `url` to `target`.

        Raises:
            SourceForbiddenError: the URL, or one it redirects to, must not be fetched.
            FileSizeExceededError: more than `max_size` bytes (default MAX_FILE_SIZE_MB) arrived.
            SourceGoneError: the source does not have the file, or refuses it.
            SourceUnavailableError: the source did not deliver this time.
        """
        limit = self._settings.max_file_bytes if max_size is None else max_size
        with self._translated(url):
            return await _write(self._chunks(url, progress), target, limit)

    async def probe(self, url: str) -> None:
        """Ask whether the source has the file, without fetching more than the answer's head.

        Raises:
            SourceForbiddenError, SourceGoneError, SourceUnavailableError: as `fetch`.
        """
        if is_data(url):
            return
        with self._translated(url):
            async with asyncio.timeout(PROBE_SECONDS), self._open(url):
                return

    @contextlib.contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        """Turn what aiohttp raises into our error tree."""
        try:
            yield
        except SourceForbiddenError as error:
            self._observer.denied(error.reason)
            raise
        except TimeoutError:
            raise SourceUnavailableError(f"{shown(url)} took too long to arrive") from None
        except aiohttp.ClientError as error:
            raise SourceUnavailableError(f"{shown(url)} could not be fetched: {type(error).__name__}") from error

    def _chunks(self, url: str, progress: Progress | None) -> AsyncIterator[bytes]:
        return _inline(url) if is_data(url) else self._stream(url, progress)

    async def _stream(self, url: str, progress: Progress | None) -> AsyncIterator[bytes]:
        async with contextlib.AsyncExitStack() as stack:
            response = await stack.enter_async_context(self._open(url))
            received, total = 0, response.content_length
            async for chunk in response.content.iter_chunked(self._settings.chunk_size_kb * 1024):
                received += len(chunk)
                self._observer.downloaded(len(chunk))
                if progress is not None:
                    progress(received, total or received)
                yield chunk

    @contextlib.asynccontextmanager
    async def _open(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request `url` and follow up to three redirects, each checked like the first."""
        for _ in range(MAX_REDIRECTS + 1):
            checked = self._allowlist.check(url)
            async with self._client().get(checked, allow_redirects=False) as response:
                if response.status not in REDIRECTS:
                    check_status(response.status, response.headers, url)
                    yield response
                    return
                url = _target(checked, response.headers.get("Location", ""))
        raise SourceForbiddenError(f"{shown(url)} redirects more than {MAX_REDIRECTS} times", reason="redirects")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=GuardedResolver(self._allowlist), limit=100),
                headers={"Accept-Encoding": "identity", "User-Agent": "outlast"},
                timeout=aiohttp.ClientTimeout(
                    total=settings.download_timeout_seconds,
                    sock_connect=settings.connect_timeout_seconds,
                    sock_read=settings.stall_timeout_seconds,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _target(origin: URL, location: str) -> str:
    """Return where a redirect leads."""
    try:
        return str(origin.join(URL(location)))
    except ValueError:
        raise SourceForbiddenError(f"{shown(str(origin))} redirects to no address", reason="malformed") from None


async def _write(chunks: AsyncIterator[bytes], target: Path, limit: int) -> Downloaded:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise FileSizeExceededError(f"the file is larger than {limit} bytes")
                digest.update(chunk)
                file.write(chunk)
    if size == 0:
        raise FileCorruptedError("the file is empty")
    return Downloaded(target, size, digest.hexdigest())


async def _inline(url: str) -> AsyncIterator[bytes]:
    """Yield the content of a `data:` URI (RFC 2397)."""
    header, comma, content = url[5:].partition(",")
    if not comma:
        raise FileCorruptedError("the data: URI has no content")
    try:
        raw = unquote_to_bytes(content)
        yield await asyncio.to_thread(base64.b64decode, raw) if header.lower().endswith(";base64") else raw
    except binascii.Error as error:
        raise FileCorruptedError(f"the data: URI is no base64: {error}") from error
