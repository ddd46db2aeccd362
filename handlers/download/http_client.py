"""Sends requests to sources. Checks every address, limits every wait, and limits the connections per host."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from handlers.download.allowlist import Allowlist, GuardedResolver
from handlers.download.source_url import redirect_target
from handlers.errors import DenialReason, SourceForbiddenError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from schemas.urls import redact_url

MAX_REDIRECTS: Final = 3
MAX_HEAD_LINE_BYTES: Final = 16 * 1024
MAX_HEAD_FIELDS: Final = 400
"""Limits of a response's head. Twice the longest line and three times the fields that aiohttp allows by default: some
servers send long policies and cookies. The largest head takes 10 MB of memory."""
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class SourceClient:
    """One client session for all sources. `aclose` closes it; the next request opens a new one."""

    def __init__(self, settings: MediaSettings, observer: Observer) -> None:
        self._settings = settings
        self._allowlist = Allowlist(settings.source_allowlist, mode=settings.source_allowlist_mode, observer=observer)
        self._session: aiohttp.ClientSession | None = None
        self._host_slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def open(
        self, url: str, deadline: asyncio.Timeout, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request `url` and yield the response once its headers are there.

        Up to MAX_REDIRECTS redirects are followed; each target is checked like the first URL. `deadline` is paused
        while the request waits for other downloads from the same host. If the body has not been read to its end when
        the context exits, the connection is closed.

        Raises:
            SourceForbiddenError: one of the URLs must not be requested.
            TimeoutError, aiohttp.ClientError: there is no response.
        """
        for _ in range(MAX_REDIRECTS + 1):
            checked = self._allowlist.check(url)
            async with self._host_slot(checked.host or "", deadline):
                response = await self._request(checked, headers)
                try:
                    if response.status not in REDIRECTS:
                        yield response
                        return
                    url = redirect_target(checked, response.headers.get("Location", ""))
                finally:
                    response.close()  # has no effect on the connection if the body was read to its end
        raise SourceForbiddenError(
            f"{redact_url(url)}: more than {MAX_REDIRECTS} redirects", reason=DenialReason.REDIRECTS
        )

    @contextlib.asynccontextmanager
    async def _host_slot(self, host: str, deadline: asyncio.Timeout) -> AsyncIterator[None]:
        """Wait until the host has a free connection. The wait does not count towards the deadline."""
        slots = self._host_slots.setdefault(host, asyncio.Semaphore(self._settings.max_connections_per_host))
        loop = asyncio.get_running_loop()
        remaining = (deadline.when() or loop.time()) - loop.time()
        deadline.reschedule(None)
        async with slots:
            deadline.reschedule(loop.time() + remaining)
            yield

    async def _request(self, url: URL, headers: Mapping[str, str] | None) -> aiohttp.ClientResponse:
        """Return the response once its headers are there. The time limit covers headers that arrive byte by byte."""
        settings = self._settings
        async with asyncio.timeout(settings.connect_timeout_seconds + settings.stall_timeout_seconds):
            return await self._get_session().get(url, headers=headers, allow_redirects=False)

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=GuardedResolver(self._allowlist), limit=0),
                headers={"Accept-Encoding": "identity", "User-Agent": "outlast"},
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=MAX_HEAD_LINE_BYTES,
                max_field_size=MAX_HEAD_LINE_BYTES,
                max_headers=MAX_HEAD_FIELDS,
            )
        return self._session
