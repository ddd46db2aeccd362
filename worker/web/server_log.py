"""aiohttp's log of a server, in which strangers cannot write a traceback for each malformed request."""

import logging
from collections.abc import Callable
from typing import Any, Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

BAD_REQUEST: Final = "bad_request"


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """Calls `count` for a request that the parser refused, and which is answered with 400. Logs everything else."""

    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__(server_logger)
        self._count = count

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        """Log, or count."""
        if isinstance(kwargs.get("exc_info"), HttpProcessingError):
            self._count(BAD_REQUEST)
        else:
            super().log(level, msg, *args, **kwargs)
