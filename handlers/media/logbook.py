"""What a codec process logs: kept while one file is worked on, sent home with the answer, and logged there.

So a line about a file has the task, the attempt and the trace that its caller's lines have, and one form and one
destination with them. A process that dies takes its lines along; its caller then says how it died.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from handlers.errors import FileProcessingError

MOST: Final = 20
"""Lines kept of one file: a decoder may have something to say about every pixel."""
NAME: Final = "async_file_processor.codec"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a codec process; `logger` is who wrote it there."""

    logger: str
    level: int
    message: str
    process: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back from a codec process: what it logged, and a result or an error."""

    lines: Sequence[Line]
    result: Any = None
    error: FileProcessingError | None = None


class Logbook(logging.Handler):
    """Keeps warnings and worse, Python's own warnings among them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if there is room."""
        if len(self.lines) < MOST:
            self.lines.append(Line(record.name, record.levelno, record.getMessage(), os.getpid()))


@contextlib.contextmanager
def kept() -> Iterator[list[Line]]:
    """Keep what is logged, instead of writing it, for as long as the context lasts."""
    root, book = logging.getLogger(), Logbook()
    before, root.handlers[:] = list(root.handlers), [book]
    logging.captureWarnings(capture=True)
    try:
        yield book.lines
    finally:
        root.handlers[:] = before


def read(answer: Answer) -> Any:  # noqa: ANN401 - what was called returned it
    """Log what the process had to say, then return its result or raise its error."""
    log = logging.getLogger(NAME)
    for line in answer.lines:
        log.log(line.level, line.message, extra={"codec_logger": line.logger, "codec_process": line.process})
    if answer.error is not None:
        raise answer.error
    return answer.result
