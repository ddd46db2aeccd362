"""One file's way from its source to the disk, over as many connections as that takes."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import aiohttp

from handlers.download.content_encoding import Inflater, inflater_for
from handlers.download.file_writer import HEAD_BYTES, DownloadedFile, FileWriter, run_in_thread, too_large
from handlers.download.http_client import SourceClient
from handlers.download.http_response import check_partial_content, check_range_end, check_status, strong_etag
from handlers.errors import SourceUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings

RESUME_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each further connection; so many broken ones are made good before the attempt has failed."""
WRITE_BYTES: Final = 1 << 20
"""What a visit to the disk is worth: a thread that often has to ask for the interpreter costs more than it writes."""
CONNECTION_ERRORS: Final = (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)

DownloadProgress = Callable[[int, int], None]
"""Called with (downloaded, total) bytes; total is what was downloaded so far while it is unknown."""


class Transfer:
    """Brings a file into its landing. A connection that breaks is resumed where a strong ETag allows it.

    Without one nothing says that the rest belongs to the same file, so the attempt has failed, and a later one starts
    over. Used once.
    """

    def __init__(
        self,
        connections: SourceClient,
        settings: MediaSettings,
        observer: Observer,
        landing: FileWriter,
        progress: DownloadProgress | None,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._observer = observer
        self._landing = landing
        self._progress = progress
        self._pace = MinimumSpeed(settings.min_speed_kb * 1024, settings.stall_timeout_seconds)
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._received = 0
        self._expected: int | None = None
        self._tag: str | None = None
        self._inflater: Inflater | None = None

    async def run(self, url: str) -> DownloadedFile:
        """Fetch the file.

        Raises:
            FileProcessingError: whatever of the tree the source, the size limit or `inspect` calls for.
            TimeoutError, aiohttp.ClientError: the source did not deliver.
        """
        async with asyncio.timeout(self._settings.download_timeout_seconds) as clock:
            await self._bring(url, clock)
        if self._expected not in {None, self._received}:
            raise SourceUnavailableError(f"the source sent {self._received} bytes of {self._expected}")
        return await run_in_thread(self._finish)

    async def _bring(self, url: str, clock: asyncio.Timeout) -> None:
        for pause in (*RESUME_PAUSES, None):
            try:
                async with self._connections.open(url, clock, self._range()) as response:
                    url = str(response.url)  # an ETag speaks of this address alone
                    if await self._begin(response, url):
                        await self._receive(response)
            except CONNECTION_ERRORS:
                if self._tag is None or pause is None:
                    raise
                await self._store()
                await asyncio.sleep(pause)
            else:
                break

    def _range(self) -> dict[str, str]:
        """Return the headers that ask for the rest, or for all of another file (RFC 9110, 13.1.5)."""
        if self._tag is None:
            return {}
        return {"Range": f"bytes={self._landing.size}-", "If-Range": self._tag}

    async def _begin(self, response: aiohttp.ClientResponse, url: str) -> bool:
        """Judge an answer's head; return whether its body is to be taken."""
        headers, size = response.headers, self._landing.size
        if self._tag is not None and response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            check_range_end(headers, size)
            return False
        if self._tag is not None and response.status == HTTPStatus.PARTIAL_CONTENT:
            self._expected = check_partial_content(headers, size, self._expected, self._tag)
        else:
            check_status(response.status, headers, url)
            if size:
                await run_in_thread(self._landing.restart)
            self._received, self._expected = 0, response.content_length
            self._inflater = inflater_for(headers)
            self._tag = strong_etag(headers) if self._inflater is None else None
        if (self._expected or 0) > self._landing.limit:
            raise too_large(self._landing.limit)
        return True

    async def _receive(self, response: aiohttp.ClientResponse) -> None:
        protocol = None if response.connection is None else response.connection.protocol
        while data := await self._read(response.content):
            self._received += len(data)
            self._observer.downloaded(len(data))
            if self._received > self._landing.limit:
                raise too_large(self._landing.limit)
            if self._progress is not None:
                self._progress(self._received, self._expected or self._received)
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes >= self._piece:
                await self._store()
        lost = None if protocol is None else protocol.exception()
        if isinstance(lost, aiohttp.ClientOSError):  # a body that ends with its connection, and this was no end
            raise lost

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        """Return what has come, b"" at the end; silence has its limit, and so have drops."""
        loop, seconds = asyncio.get_running_loop(), self._settings.stall_timeout_seconds
        asked = loop.time()
        try:
            async with asyncio.timeout(seconds):
                data = await content.read(self._settings.chunk_size_kb * 1024)
        except TimeoutError:
            raise SourceUnavailableError(f"the source sent nothing for {seconds:g} s (STALL_TIMEOUT_SECONDS)") from None
        self._pace.note(len(data), loop.time() - asked)
        return data

    @property
    def _piece(self) -> int:
        """Bytes to gather before the disk is visited; the first few go at once, for they may end the matter."""
        return HEAD_BYTES if self._landing.wants else max(WRITE_BYTES, self._settings.chunk_size_kb * 1024)

    def _finish(self) -> DownloadedFile:
        self._write(self._held)
        if self._inflater is not None:
            self._inflater.finish()
        return self._landing.finish()

    async def _store(self) -> None:
        if self._held:
            pieces, self._held, self._held_bytes = self._held, [], 0
            await run_in_thread(self._write, pieces)

    def _write(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        pieces.clear()
        for piece in (data,) if self._inflater is None else self._inflater.feed(data):
            self._landing.write(piece)


class MinimumSpeed:
    """Ends a transfer that brings less than `least` bytes a second, averaged over `window` seconds of waiting for it.

    Only waiting counts: a slow disk of ours is not the source's fault.
    """

    def __init__(self, least: float, window: float) -> None:
        self._least = least
        self._window = window
        self._bytes = 0
        self._seconds = 0.0

    def note(self, size: int, seconds: float) -> None:
        """Count `size` bytes that came after `seconds`; raise SourceUnavailableError when all that is too slow."""
        self._bytes += size
        self._seconds += seconds
        if self._seconds < self._window:
            return
        if self._bytes < self._least * self._seconds:
            raise SourceUnavailableError(f"the source sent {self._bytes} bytes in {self._seconds:.1f} s (MIN_SPEED_KB)")
        self._bytes, self._seconds = 0, 0.0
