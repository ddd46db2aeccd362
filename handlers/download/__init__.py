"""Downloads a source file to disk: streamed, hashed and limited in size. `transfer.py` does one download."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, Self, TypeVar

import aiohttp

from handlers.download.data_uri import write_data_uri
from handlers.download.disk_space import DiskSpace
from handlers.download.fal_files import FalFiles
from handlers.download.file_writer import DownloadedFile, FileWriter, HeadCheck, run_in_thread
from handlers.download.http_client import MAX_HEAD_FIELDS, MAX_HEAD_LINE_BYTES, SourceClient
from handlers.download.http_response import check_status
from handlers.download.transfer import DownloadProgress, Transfer
from handlers.errors import SourceForbiddenError, SourceGoneError, SourceUnavailableError
from handlers.network import failure_text
from handlers.observer import Observer
from handlers.settings import MediaSettings
from handlers.turns import Turns
from schemas.urls import is_data_uri, redact_url

PROBE_SECONDS: Final = 15.0
T = TypeVar("T")


class Downloader:
    """Downloads files over shared connections. Close it with `aclose`."""

    def __init__(self, settings: MediaSettings, observer: Observer | None = None) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        self._client = SourceClient(settings, self._observer)
        self._fal_files = FalFiles(settings)
        self._disk = Turns(settings.temp_disk_bytes, settings.temp_disk_bytes // 2)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The downloader opens new ones when it is used again."""
        await self._client.aclose()

    def waiting(self) -> dict[str, int]:
        """Return how many files wait for a `connection` to their host and for `disk` space, for metrics."""
        return {"connection": self._client.waiting, "disk": self._disk.waiting}

    @contextlib.contextmanager
    def disk_space(self, user: str | None) -> Iterator[DiskSpace]:
        """Yield the disk space for one file of this user, for `fetch`. It is given back when the context ends."""
        space = DiskSpace(self._disk, user)
        try:
            yield space
        finally:
            space.release()

    async def fetch(  # noqa: PLR0913 - options of one download
        self,
        url: str,
        target: Path,
        max_size: int | None = None,
        progress: DownloadProgress | None = None,
        check_head: HeadCheck | None = None,
        *,
        count_denied: bool = True,
        space: DiskSpace | None = None,
    ) -> DownloadedFile:
        """Download the file at `url` to `target`.

        `check_head` is called with the first 4 KiB, or the whole of a smaller file, and ends the download by raising.
        A URL that must not be requested is reported to the observer if `count_denied`. With `space`, disk space for the
        file is reserved there before the content is received. `progress`: see DownloadProgress.

        Raises:
            SourceForbiddenError: the URL, or a redirect target, must not be requested.
            FileSizeExceededError: the file has more than `max_size` bytes (default MAX_FILE_SIZE_MB), by its
                Content-Length or by the bytes received.
            FileCorruptedError: the file is empty (retryable), or a `data:` URI is empty or cannot be decoded.
            SourceGoneError: the source does not have the file, or refuses access. Retryable if the file may come yet.
            SourceUnavailableError: the source did not deliver the file this time.
            FileProcessingError: any other status, with the code `source_gone`; and what `check_head` raises.
            OSError: the file cannot be written.
        """
        limit = self._settings.max_file_bytes if max_size is None else max_size
        with self._translated_errors(url, count_denied=count_denied), FileWriter(target, limit, check_head) as writer:
            if not is_data_uri(url):
                return await self._with_signed_link(
                    url,
                    lambda link: Transfer(self._client, self._settings, self._observer, writer, progress, space).run(
                        link
                    ),
                )
            if space is not None:
                await space.reserve(min(len(url), limit))
            file = await run_in_thread(write_data_uri, url, writer)
            if progress is not None:
                progress(file.size, file.size)
            return file

    async def probe(self, url: str, *, count_denied: bool = True) -> int | None:
        """Check that the source has the file, by the headers of a GET; return the Content-Length, if there is one.

        For a `data:` URI, the length of the URI is returned.

        Raises:
            SourceForbiddenError, SourceGoneError, SourceUnavailableError, FileProcessingError: as `fetch`.
        """
        if is_data_uri(url):
            return len(url)
        with self._translated_errors(url, count_denied=count_denied):
            return await self._with_signed_link(url, self._probe)

    async def _probe(self, url: str) -> int | None:
        async with asyncio.timeout(PROBE_SECONDS) as deadline, self._client.open(url, deadline) as response:
            check_status(response.status, response.headers, str(response.url))
            return response.content_length

    async def _with_signed_link(self, url: str, request: Callable[[str], Awaitable[T]]) -> T:
        """Call `request` with the URL; if the file is gone or refused, and FAL signs a link to it, with that link."""
        try:
            return await request(url)
        except SourceGoneError:
            link = await self._fal_files.signed_url(url)
            if link is None:
                raise
        return await request(link)

    @contextlib.contextmanager
    def _translated_errors(self, url: str, *, count_denied: bool) -> Iterator[None]:
        """Translate aiohttp's exceptions into our error tree, and report refused URLs to the observer."""
        try:
            yield
        except SourceForbiddenError as error:
            if count_denied:
                self._observer.denied(error.reason)
            raise
        except TimeoutError:
            raise SourceUnavailableError(f"{redact_url(url)}: the download exceeded its time limit") from None
        except aiohttp.ClientResponseError as error:
            raise SourceUnavailableError(
                f"{redact_url(url)}: the response's head is not valid HTTP, or has a line over {MAX_HEAD_LINE_BYTES} "
                f"bytes or more than {MAX_HEAD_FIELDS} fields"
            ) from error
        except aiohttp.ClientError as error:
            raise SourceUnavailableError(f"{redact_url(url)}: the download failed: {failure_text(error)}") from error
