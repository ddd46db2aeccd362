"""The log lines of a codec process: collected during one request, sent with the answer, and logged by the worker.

So each line has the task, attempt and trace of its file, and the worker's format and destination. The lines of a
process that dies are lost; the worker then logs its exit code.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from schemas.formats import MAX_LOG_CHARACTERS, MAX_LOG_LINES, MAX_LOGGER_CHARACTERS

Line = dict[str, str | int]
"""The fields of `schemas.codec.LogLine`."""
UNPRINTABLE: Final = "backslashreplace"
"""How to write characters that UTF-8 cannot encode: lone surrogates, from file names."""


class LogCapture(logging.Handler):
    """Collects the first MAX_LOG_LINES warnings and errors in `lines`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect the record, unless there are MAX_LOG_LINES already."""
        if len(self.lines) < MAX_LOG_LINES:
            logger = plain_text(record.name, MAX_LOGGER_CHARACTERS)
            level = min(record.levelno, logging.CRITICAL)
            message = plain_text(record.getMessage(), MAX_LOG_CHARACTERS)
            self.lines.append({"logger": logger, "level": level, "message": message})


@contextlib.contextmanager
def captured_logs() -> Iterator[list[Line]]:
    """Collect the warnings and errors logged in this context, and Python's own warnings, instead of writing them."""
    root, capture = logging.getLogger(), LogCapture()
    before, root.handlers[:] = list(root.handlers), [capture]
    logging.captureWarnings(capture=True)
    try:
        yield capture.lines
    finally:
        root.handlers[:] = before


def plain_text(text: str, limit: int) -> str:
    """Return the text with characters that UTF-8 can encode, cut to `limit` characters."""
    return text[:limit].encode(errors=UNPRINTABLE).decode()[:limit]
