"""What a codec process logs: collected during one request, sent with the answer, and logged by the worker.

So a line about a file carries its caller's task, attempt and trace, and has the same format and destination. The lines
of a process that dies are lost; the worker then logs how it died.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from schemas.codec_limits import MAX_LOG_CHARACTERS, MAX_LOG_LINES, MAX_LOGGER_CHARACTERS

Line = dict[str, str | int]
"""The fields of `schemas.codec.LogLine`."""
UNPRINTABLE: Final = "backslashreplace"
"""How characters are written that UTF-8 has no form for (lone surrogates, from file names)."""


class LogCapture(logging.Handler):
    """Keeps the first warnings and errors, Python's own warnings among them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line if there is room."""
        if len(self.lines) < MAX_LOG_LINES:
            logger = plain_text(record.name, MAX_LOGGER_CHARACTERS)
            level = min(record.levelno, logging.CRITICAL)
            message = plain_text(record.getMessage(), MAX_LOG_CHARACTERS)
            self.lines.append({"logger": logger, "level": level, "message": message})


@contextlib.contextmanager
def captured() -> Iterator[list[Line]]:
    """Collect what is logged, instead of writing it, for as long as the context lasts."""
    root, capture = logging.getLogger(), LogCapture()
    before, root.handlers[:] = list(root.handlers), [capture]
    logging.captureWarnings(capture=True)
    try:
        yield capture.lines
    finally:
        root.handlers[:] = before


def plain_text(text: str, limit: int) -> str:
    """Return the text as UTF-8 can hold it, cut to `limit` characters."""
    return text[:limit].encode(errors=UNPRINTABLE).decode()[:limit]
