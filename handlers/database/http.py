"""Sends HTTP requests to a Supabase project over a shared connection pool.

It uses aiohttp, which takes less CPU than the supabase client: 0.10 ms instead of 0.73 ms for a function call; for an
upload of 140 KB 0.3 ms instead of 1.1 ms with httpx and 2.2 ms with storage3.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

CONNECT_SECONDS: Final = 10.0
CONNECTIONS: Final = 64
KEEP_ALIVE_SECONDS: Final = 15.0


class ProjectApi:
    """Sends requests with the project's key. Connections are opened on first use.

    `timeout` is the time limit of one request in seconds.
    """

    def __init__(self, url: str, key: str, timeout: float) -> None:
        self.timeout = timeout
        self._url = url
        self._headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        **body: Any,  # noqa: ANN401 - aiohttp's `json` or `data`
    ) -> aiohttp.client._RequestContextManager:
        """Return a context manager that sends the request. `path` must be percent-encoded already.

        Entering it raises aiohttp.ClientError or TimeoutError.
        """
        return self._get_session().request(
            method,
            URL(self._url + path, encoded=True),
            headers={**self._headers, **(headers or {})},
            allow_redirects=False,
            timeout=timeout or aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_SECONDS),
            **body,
        )

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=_Response,
                proxy=_proxy(URL(self._url)),
            )
        return self._session


def _proxy(url: URL) -> str | None:
    """Return the environment's proxy for the URL. With `trust_env` aiohttp would read it at every request (0.6 ms)."""
    proxy = None if proxy_bypass(url.host or "") else getproxies().get(url.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


class _Response(aiohttp.ClientResponse):
    """Closes the connection after a refused POST or PATCH: the unread rest of a body would break the next request."""

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        response = await super().start(connection)
        if protocol is not None and self.method in {"POST", "PATCH"} and self.status >= HTTPStatus.BAD_REQUEST:
            protocol.force_close()
            if self.content.is_eof():  # the connection has been returned to the pool already
                protocol.close()
        return response
