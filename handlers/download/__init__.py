"""Fetch a source file: streamed to disk, hashed on the way, never more than it may be. `transfer.py` has the how."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import aiohttp

from handlers.download import data_uri
from handlers.download.file_writer import DownloadedFile, FileWriter, HeadCheck, run_in_thread
from handlers.download.http_client import SourceClient
from handlers.download.http_response import check_status
from handlers.download.transfer import DownloadProgress, Transfer
from handlers.errors import SourceForbiddenError, SourceUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from schemas.urls import is_data_uri, redact_url

PROBE_SECONDS: Final = 15.0


class Downloader:
    """Fetches files over shared connections; close it with `aclose`."""

    def __init__(self, settings: MediaSettings, observer: Observer | None = None) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        self._connections = SourceClient(settings, self._observer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The downloader opens new ones when it is used again."""
        await self._connections.aclose()

    async def fetch(
        self,
        url: str,
        target: Path,
        max_size: int | None = None,
        progress: DownloadProgress | None = None,
        inspect: HeadCheck | None = None,
    ) -> DownloadedFile:
        """Write the file at `url` to `target`. `inspect` sees the first 4 KiB and may end it there by raising.

        Raises:
            SourceForbiddenError: the URL, or one it redirects to, must not be fetched.
            FileSizeExceededError: more than `max_size` bytes (default MAX_FILE_SIZE_MB) were declared or arrived.
            FileCorruptedError: the file is empty, or a `data:` URI cannot be decoded.
            SourceGoneError: the source does not have the file, or refuses it.
            SourceUnavailableError: the source did not deliver this time.
            OSError: the disk does not take it.
        """
        limit = self._settings.max_file_bytes if max_size is None else max_size
        with self._translated(url), FileWriter(target, limit, inspect) as landing:
            if not is_data_uri(url):
                return await Transfer(self._connections, self._settings, self._observer, landing, progress).run(url)
            got = await run_in_thread(data_uri.write_data_uri, url, landing)
            if progress is not None:
                progress(got.size, got.size)
            return got

    async def probe(self, url: str) -> None:
        """Ask whether the source has the file, without fetching more than the answer's head.

        Raises:
            SourceForbiddenError, SourceGoneError, SourceUnavailableError: as `fetch`.
        """
        if is_data_uri(url):
            return
        with self._translated(url):
            async with asyncio.timeout(PROBE_SECONDS) as clock, self._connections.open(url, clock) as response:
                check_status(response.status, response.headers, url)

    @contextlib.contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        """Turn what aiohttp raises into our error tree."""
        try:
            yield
        except SourceForbiddenError as error:
            self._observer.denied(error.reason)
            raise
        except TimeoutError:
            raise SourceUnavailableError(f"{redact_url(url)} took too long to arrive") from None
        except aiohttp.ClientError as error:
            raise SourceUnavailableError(f"{redact_url(url)} could not be fetched: {type(error).__name__}") from error
