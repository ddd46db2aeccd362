"""How log lines look: JSON for machines, colours for a terminal; the same context bound to every line of an attempt.

The domain logs through the standard library (`async_file_processor` and below); structlog renders everything in one
place, and `redact.py` looks at every line before it leaves. Our own lines go to the handler as they are rendered: a
LogRecord each, with a look at the stack, would cost a webhook more than all else it says.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, TextIO

import structlog

from handlers.settings import MediaSettings
from worker.observability.redact import redaction_processor

VERBOSE_LIBRARIES: Final = ("httpx", "httpcore", "hpack", "aio_pika", "aiormq", "aiohttp.access", "urllib3", "PIL")
"""Libraries that tell every request, some with its headers: warnings alone, unless LOG_LEVELS names them."""

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
}


def configure(settings: MediaSettings) -> None:
    """Send all logging to standard error in the configured form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = [*_renderers(settings), redaction_processor(settings)]
    ours: list[Any] = [_by_level, *shared, *rendering]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    structlog.configure(
        processors=ours,
        logger_factory=partial(DirectLogger, handler),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    _set_levels(settings)


class DirectLogger:
    """A logger of ours: has the level of the standard library's logger of its name, and writes finished lines."""

    def __init__(self, handler: logging.StreamHandler[TextIO], name: str) -> None:
        self.name = name
        self._handler = handler
        self.takes = logging.getLogger(name).isEnabledFor  # asked for every line: levels may change

    def line(self, text: str) -> None:
        """Write a line at once, whole, under the handler's lock; what hinders is the handler's business, not ours."""
        handler = self._handler
        with handler.lock or contextlib.nullcontext():
            try:
                handler.stream.write(f"{text}\n")
                handler.flush()
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - as logging.StreamHandler has it
                handler.handleError(logging.LogRecord(self.name, logging.ERROR, "", 0, text, None, None))

    debug = info = warning = error = critical = exception = line


def _by_level(logger: DirectLogger, method: str, line: dict[str, Any]) -> dict[str, Any]:
    """Drop what LOG_LEVEL and LOG_LEVELS leave out."""
    if logger.takes(LEVELS[method]):
        return line
    raise structlog.DropEvent


def _renderers(settings: MediaSettings) -> list[Any]:
    as_console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    if as_console:  # tracebacks without the local variables that rich would show: they hold URLs and keys
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_as_json)]


def _as_json(line: dict[str, Any], default: Callable[[Any], Any]) -> str:
    """Render as `json.dumps` does, which makes an encoder for every line."""
    return _encoder(default).encode(line)


@cache
def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    return json.JSONEncoder(default=default)


def _set_levels(settings: MediaSettings) -> None:
    """Set LOG_LEVEL for all, quiet for libraries, and what LOG_LEVELS says of modules."""
    root = logging.getLogger()
    root.setLevel(settings.log_level)
    for chatty in VERBOSE_LIBRARIES:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    for name, level in settings.log_levels.items():
        logging.getLogger(name).setLevel(level)


def configure_as_library() -> None:
    """Leave our lines to the standard library's loggers, in a program that set up no logging of ours or of structlog's.

    That program decides what it shows: by default warnings and worse, on standard error.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
