"""Sends requests to sources. Checks every URL and address, sets time limits, limits connections by host and user."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from handlers.download.allowlist import Allowlist, GuardedResolver
from handlers.download.interim_responses import SourceConnector
from handlers.download.source_url import redirect_target
from handlers.errors import DenialReason, SourceForbiddenError
from handlers.observer import Observer
from handlers.settings import MediaSettings
from handlers.turns import Turns
from schemas.urls import redact_url

MAX_REDIRECTS: Final = 3
MAX_HEAD_LINE_BYTES: Final = 16 * 1024
MAX_HEAD_FIELDS: Final = 400
"""Limits of a response's head. Twice the longest line and three times the fields that aiohttp allows by default: some
servers send long policies and cookies. The largest head takes 10 MB of memory."""
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@contextlib.contextmanager
def paused(deadline: asyncio.Timeout) -> Iterator[None]:
    """Pause a time limit: what happens in the context does not count towards it."""
    loop = asyncio.get_running_loop()
    remaining = (deadline.when() or loop.time()) - loop.time()
    deadline.reschedule(None)
    yield
    deadline.reschedule(loop.time() + remaining)


class SourceClient:
    """Sends requests to all sources over one session. `aclose` closes it; the next request opens a new one.

    `open_responses` is the number of responses that are being received.
    """

    def __init__(self, settings: MediaSettings, observer: Observer) -> None:
        self._settings = settings
        self._allowlist = Allowlist(settings.source_allowlist, mode=settings.source_allowlist_mode, observer=observer)
        self.open_responses = 0
        self._session: aiohttp.ClientSession | None = None
        self._host_turns: WeakValueDictionary[str, Turns] = WeakValueDictionary()

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a connection to their host."""
        return sum(turns.waiting for turns in self._host_turns.values())

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def open(
        self,
        url: str,
        deadline: asyncio.Timeout,
        headers: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request `url` and yield the response once its headers are there.

        Up to MAX_REDIRECTS redirects are followed; each target is checked like the first URL. `deadline` is paused
        while the request waits for a free connection to the host, in turn by user. If the body has not been read
        to its end when the context exits, the connection is closed.

        Raises:
            SourceForbiddenError: one of the URLs must not be requested.
            TimeoutError, aiohttp.ClientError: there is no response.
        """
        for _ in range(MAX_REDIRECTS + 1):
            checked = self._allowlist.check(url)
            async with self._host_slot(checked.host or "", user, deadline):
                response = await self._request(checked, headers)
                self.open_responses += 1
                try:
                    if response.status not in REDIRECTS:
                        yield response
                        return
                    url = redirect_target(checked, response.headers.get("Location", ""))
                finally:
                    self.open_responses -= 1
                    response.close()  # has no effect on the connection if the body was read to its end
        raise SourceForbiddenError(
            f"{redact_url(url)}: more than {MAX_REDIRECTS} redirects", reason=DenialReason.REDIRECTS
        )

    @contextlib.asynccontextmanager
    async def _host_slot(self, host: str, user: str | None, deadline: asyncio.Timeout) -> AsyncIterator[None]:
        """Wait until one of the host's connections is free. One user gets at most half of them, and at least one."""
        limit = self._settings.max_connections_per_host
        turns = self._host_turns.get(host) or self._host_turns.setdefault(host, Turns(limit, max(1, limit // 2)))
        with paused(deadline):
            await turns.acquire(user)
        try:
            yield
        finally:
            turns.release(user, 1)

    async def _request(self, url: URL, headers: Mapping[str, str] | None) -> aiohttp.ClientResponse:
        """Return the response once its headers are there. All headers must arrive within the time limit."""
        settings = self._settings
        async with asyncio.timeout(settings.connect_timeout_seconds + settings.stall_timeout_seconds):
            return await self._get_session().get(url, headers=headers, allow_redirects=False)

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=SourceConnector(resolver=GuardedResolver(self._allowlist), limit=0),
                headers={"Accept-Encoding": "identity", "User-Agent": "outlast"},
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=MAX_HEAD_LINE_BYTES,
                max_field_size=MAX_HEAD_LINE_BYTES,
                max_headers=MAX_HEAD_FIELDS,
            )
        return self._session
