"""Requests to sources: every address checked, every wait bounded, and not too many at once to one host."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from handlers.download.allowlist import Allowlist, GuardedResolver
from handlers.errors import DenialReason, SourceForbiddenError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from schemas.urls import redact_url

MAX_REDIRECTS: Final = 3
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class SourceClient:
    """One shared client session to all sources. Close it with `aclose`; it opens anew when it is used again."""

    def __init__(self, settings: MediaSettings, observer: Observer) -> None:
        self._settings = settings
        self._allowlist = Allowlist(settings.source_allowlist, mode=settings.source_allowlist_mode, observer=observer)
        self._session: aiohttp.ClientSession | None = None
        self._rooms: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def open(
        self, url: str, clock: asyncio.Timeout, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request `url` and follow up to three redirects, each checked like the first; yield the answer's head.

        `clock` stands still while other transfers from the same host must end first. A body that was not read to its
        end when the context is left costs the connection: nothing more of it is received.

        Raises:
            SourceForbiddenError: one of the addresses must not be fetched.
            TimeoutError, aiohttp.ClientError: there is no answer.
        """
        for _ in range(MAX_REDIRECTS + 1):
            checked = self._allowlist.check(url)
            async with self._room(checked.host or "", clock):
                response = await self._answer(checked, headers)
                try:
                    if response.status not in REDIRECTS:
                        yield response
                        return
                    url = _target(checked, response.headers.get("Location", ""))
                finally:
                    response.close()  # one read to its end has given its connection back already
        raise SourceForbiddenError(
            f"{redact_url(url)} redirects more than {MAX_REDIRECTS} times", reason=DenialReason.REDIRECTS
        )

    @contextlib.asynccontextmanager
    async def _room(self, host: str, clock: asyncio.Timeout) -> AsyncIterator[None]:
        """Wait until the host has room for another connection; the time that takes is not the source's fault."""
        room = self._rooms.setdefault(host, asyncio.Semaphore(self._settings.max_connections_per_host))
        loop = asyncio.get_running_loop()
        left = (clock.when() or loop.time()) - loop.time()
        clock.reschedule(None)
        async with room:
            clock.reschedule(loop.time() + left)
            yield

    async def _answer(self, url: URL, headers: Mapping[str, str] | None) -> aiohttp.ClientResponse:
        """Return the answer as soon as its head is there, which may not come in drops forever."""
        settings = self._settings
        async with asyncio.timeout(settings.connect_timeout_seconds + settings.stall_timeout_seconds):
            return await self._client().get(url, headers=headers, allow_redirects=False)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=GuardedResolver(self._allowlist), limit=0),
                headers={"Accept-Encoding": "identity", "User-Agent": "outlast"},
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


def _target(origin: URL, location: str) -> str:
    """Return where a redirect leads."""
    try:
        target = URL(location)
        if location.strip() and (target.host or not target.absolute):
            return str(origin.join(target))
    except ValueError:
        pass
    raise SourceForbiddenError(f"{redact_url(str(origin))} redirects to no address", reason=DenialReason.MALFORMED)
