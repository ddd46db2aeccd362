"""One download: requests the file, resumes after broken connections, and writes the body to disk."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import aiohttp

from handlers.detect.signatures import HEAD_BYTES
from handlers.download.content_encoding import Inflater, inflater_for
from handlers.download.disk_space import DiskSpace
from handlers.download.file_writer import DownloadedFile, FileWriter, run_in_thread, too_large
from handlers.download.http_client import SourceClient, paused
from handlers.download.http_response import check_partial_content, check_range_end, check_status, strong_etag
from handlers.errors import FileCorruptedError, SourceUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings

RESUME_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""The pause, in seconds, before each time that a download resumes. If the last connection breaks too, it fails."""
WRITE_BYTES: Final = 1 << 20
"""Bytes to buffer before a write. Smaller writes in a thread cost more for waiting on the GIL than for writing."""
BUFFERED_BYTES: Final = 16 << 20
"""Bytes that all downloads together buffer, unless CHUNK_SIZE_KB for each of them is more."""
CONNECTION_ERRORS: Final = (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)

DownloadProgress = Callable[[int, int], None]
"""Called with (downloaded, total) in bytes. While the total is unknown, it equals `downloaded`."""


class Transfer:
    """Downloads one file into a FileWriter. Use an instance for one download.

    A broken connection is resumed with a range request if the response had a strong ETag. Without one, the remaining
    bytes could belong to another version of the file, so the download fails and a later attempt starts over.
    """

    def __init__(
        self,
        client: SourceClient,
        settings: MediaSettings,
        observer: Observer,
        writer: FileWriter,
        progress: DownloadProgress | None,
        space: DiskSpace | None = None,
    ) -> None:
        self._client = client
        self._space = space
        self._settings = settings
        self._observer = observer
        self._writer = writer
        self._progress = progress
        self._speed = MinimumSpeed(settings.min_speed_kb * 1024, settings.stall_timeout_seconds)
        self._url = ""
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._received = 0
        self._expected: int | None = None
        self._etag: str | None = None
        self._inflater: Inflater | None = None

    async def run(self, url: str) -> DownloadedFile:
        """Download the file.

        Raises:
            FileProcessingError: the source refused, the file is too large, incomplete or empty, or `check_head` raised.
            TimeoutError, aiohttp.ClientError: the source did not deliver the file.
        """
        async with asyncio.timeout(self._settings.download_timeout_seconds) as deadline:
            await self._download(url, deadline)
        if self._expected not in {None, self._received}:
            raise SourceUnavailableError(f"the source sent {self._received} of {self._expected} bytes")
        return await run_in_thread(self._finish)

    async def _download(self, url: str, deadline: asyncio.Timeout) -> None:
        """Receive the body over as many connections as RESUME_PAUSES allow."""
        self._url = url
        for pause in (*RESUME_PAUSES, None):
            try:
                while not await self._request(deadline):
                    await self._wait_for_space(deadline)
                    self._url, self._etag = url, None  # the target of a redirect may be valid for a short time
            except CONNECTION_ERRORS:
                if self._etag is None or pause is None:
                    raise
                await self._flush()
                await asyncio.sleep(pause)
            else:
                break

    async def _request(self, deadline: asyncio.Timeout) -> bool:
        """Request the file, or its rest, and receive it. Return False if there is no disk space for the file now.

        In that case the connection is closed: a download that waits for space must not hold a connection, because
        another download that holds space may have to wait for that connection. And a source closes a connection on
        which nothing is read.
        """
        user = None if self._space is None else self._space.user
        async with self._client.open(self._url, deadline, self._range_headers(), user) as response:
            self._url = str(response.url)  # after redirects: an ETag is valid for this URL only
            if not await self._begin(response, self._url):
                return True
            if self._space is not None and not self._space.reserve_now(self._space_bytes):
                return False
            await self._receive(response)
        return True

    def _range_headers(self) -> dict[str, str]:
        """Return headers that request the rest, or the whole file if it has changed (RFC 9110, 13.1.5)."""
        if self._etag is None:
            return {}
        return {"Range": f"bytes={self._writer.size}-", "If-Range": self._etag}

    async def _begin(self, response: aiohttp.ClientResponse, url: str) -> bool:
        """Check the response's status and headers; return whether its body has to be received."""
        headers, size = response.headers, self._writer.size
        if self._etag is not None and response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            check_range_end(headers, size)
            return False
        if self._etag is not None and response.status == HTTPStatus.PARTIAL_CONTENT:
            self._expected = check_partial_content(headers, size, self._expected, self._etag)
        else:
            check_status(response.status, headers, url)
            if size:
                await run_in_thread(self._writer.restart)
            self._received, self._expected = 0, response.content_length
            self._inflater = inflater_for(headers)
            self._etag = strong_etag(headers) if self._inflater is None else None
        if (self._expected or 0) > self._writer.limit:
            raise too_large(self._writer.limit)
        return True

    @property
    def _space_bytes(self) -> int:
        """The size of the file in bytes; the maximum size of a file if the size is not known."""
        is_known = self._expected is not None and self._inflater is None
        return self._expected or 0 if is_known else self._writer.limit

    async def _wait_for_space(self, deadline: asyncio.Timeout) -> None:
        """Wait for the disk space of the file. This does not count towards the time limit."""
        if self._space is not None:
            with paused(deadline):
                await self._space.reserve(self._space_bytes)

    async def _receive(self, response: aiohttp.ClientResponse) -> None:
        protocol = None if response.connection is None else response.connection.protocol
        while data := await self._read(response.content):
            self._received += len(data)
            self._observer.downloaded(len(data))
            if self._received > self._writer.limit:
                raise too_large(self._writer.limit)
            if self._progress is not None:
                self._progress(self._received, self._expected or self._received)
            self._buffer.append(data)
            self._buffered += len(data)
            if self._buffered >= self._flush_bytes:
                await self._flush()
        # A body without Content-Length ends with the connection. aiohttp then reports no error for a reset.
        connection_error = None if protocol is None else protocol.exception()
        if isinstance(connection_error, aiohttp.ClientOSError):
            raise connection_error

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        """Return the next bytes, b"" at the end; raise SourceUnavailableError for a stalled or slow source."""
        loop, seconds = asyncio.get_running_loop(), self._settings.stall_timeout_seconds
        started = loop.time()
        try:
            async with asyncio.timeout(seconds):
                data = await content.read(self._settings.chunk_size_kb * 1024)
        except TimeoutError:
            raise SourceUnavailableError(f"the source sent nothing for {seconds:g} s (STALL_TIMEOUT_SECONDS)") from None
        self._speed.record(len(data), loop.time() - started)
        return data

    @property
    def _flush_bytes(self) -> int:
        """How many bytes to buffer before a write; few at first, because `check_head` may end the download."""
        if self._writer.missing_head_bytes:
            return HEAD_BYTES
        share = min(WRITE_BYTES, BUFFERED_BYTES // max(1, self._client.open_responses))
        return max(share, self._settings.chunk_size_kb * 1024)

    def _finish(self) -> DownloadedFile:
        self._write(self._buffer)
        if self._inflater is not None:
            self._inflater.finish()
        if self._writer.size == 0:
            # Programs create a file before they write it, so another attempt may find it written.
            raise FileCorruptedError("the source answered with an empty file", retryable=True)
        return self._writer.finish()

    async def _flush(self) -> None:
        if self._buffer:
            pieces, self._buffer, self._buffered = self._buffer, [], 0
            await run_in_thread(self._write, pieces)

    def _write(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        pieces.clear()
        for piece in (data,) if self._inflater is None else self._inflater.feed(data):
            self._writer.write(piece)


class MinimumSpeed:
    """Ends a transfer that is slower than `bytes_per_second`, averaged over `window` seconds of waiting for data.

    Only the time spent waiting for the source counts, so a slow local disk does not end a transfer.
    """

    def __init__(self, bytes_per_second: float, window: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._window = window
        self._bytes = 0
        self._seconds = 0.0

    def record(self, size: int, seconds: float) -> None:
        """Count `size` bytes that were waited for during `seconds`.

        Raises:
            SourceUnavailableError: the average of the window that ends here is too low.
        """
        self._bytes += size
        self._seconds += seconds
        if self._seconds < self._window:
            return
        if self._bytes < self._bytes_per_second * self._seconds:
            raise SourceUnavailableError(f"the source sent {self._bytes} bytes in {self._seconds:.1f} s (MIN_SPEED_KB)")
        self._bytes, self._seconds = 0, 0.0
