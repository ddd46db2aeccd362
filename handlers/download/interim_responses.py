"""Limits the interim responses (1xx) of a source.

aiohttp reads up to 256 KiB at once, which holds 10,000 responses `HTTP/1.1 100 Continue`, and makes objects of all of
them: 140 MiB for each connection. It has no limit for them, and no public way to set the protocol class.
"""

import asyncio
import functools
import re
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

MAX_INTERIM_RESPONSES: Final = 64
INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1\d\d")
FINAL: Final = re.compile(rb"HTTP/1\.[01] [2-9]\d\d")


class _SourceProtocol(ResponseHandler):
    """Closes the connection when a response has more than MAX_INTERIM_RESPONSES interim ones in front."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0
        self._is_final = False

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's
        """Begin with the next response."""
        self._interim = 0
        self._is_final = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse what was read, unless it has too many interim responses."""
        if not self._is_final:
            final = FINAL.search(data)
            self._is_final = final is not None
            self._interim += len(INTERIM.findall(data, 0, final.start() if final else len(data)))
            if self._interim > MAX_INTERIM_RESPONSES:
                self.set_exception(aiohttp.ClientConnectionError("too many interim responses (1xx)"))
                self.close()
                return
        super().data_received(data)


class SourceConnector(aiohttp.TCPConnector):
    """A connector whose connections limit interim responses."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(**options)
        self._factory: Any = functools.partial(_SourceProtocol, loop=self._loop)
