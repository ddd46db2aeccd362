"""Limits the interim responses (1xx) of a source.

aiohttp reads up to 256 KiB at once, which holds 10,000 responses `HTTP/1.1 100 Continue`, and makes objects of all of
them: 140 MiB for each connection. aiohttp has no limit for them, and no public way to set the protocol class.
"""

import asyncio
import functools
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage

MAX_INTERIM_RESPONSES: Final = 64
PIECE_BYTES: Final = 4096
"""How many bytes are parsed at once before the final response: 240 interim responses at most."""


class _SourceProtocol(ResponseHandler):
    """Closes the connection after more than MAX_INTERIM_RESPONSES interim responses before the final one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0
        self._is_final = False

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's
        """Reset the count: aiohttp calls this before each request."""
        self._interim = 0
        self._is_final = False
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Count the parsed response if it is an interim one. aiohttp calls this for each response."""
        if data[0].code < HTTPStatus.OK:
            self._interim += 1
        else:
            self._is_final = True
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse what was read, in pieces until the final response, unless there are too many interim responses."""
        start = 0
        while not self._is_final and len(data) - start > PIECE_BYTES and not self._has_too_many():
            super().data_received(data[start : start + PIECE_BYTES])
            start += PIECE_BYTES
        if not self._has_too_many():
            super().data_received(data[start:])
        if self._has_too_many() and self.transport is not None:
            self._buffer.clear()
            self.set_exception(aiohttp.ClientConnectionError("too many interim responses (1xx)"))
            self.transport.close()

    def _has_too_many(self) -> bool:
        return self._interim > MAX_INTERIM_RESPONSES


class SourceConnector(aiohttp.TCPConnector):
    """A connector whose connections limit interim responses."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(**options)
        self._factory: Any = functools.partial(_SourceProtocol, loop=self._loop)
