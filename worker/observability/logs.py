"""Log configuration: JSON lines, or coloured lines on a terminal.

`handlers` and libraries log through the standard library, `worker` through structlog. structlog renders all lines, and
`redact.py` masks secrets in each. Lines of structlog loggers are written directly to the handler (DirectLogger):
creating a LogRecord for each, which inspects the stack, was the most expensive part of logging a webhook.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict

from handlers.settings import MediaSettings
from worker.observability.redact import redaction_processor

VERBOSE_LIBRARIES: Final = ("httpx", "httpcore", "hpack", "aio_pika", "aiormq", "aiohttp.access", "urllib3", "PIL")
"""Libraries that log every request, some with headers. Only their warnings are shown, unless LOG_LEVELS names them."""
BROKER_LIBRARIES: Final = ("aio_pika", "aiormq")
"""Libraries that warn with a traceback whenever a connection ends. Outlast logs the reason itself."""

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
}


def configure(settings: MediaSettings) -> None:
    """Write all log lines to standard error, with the format and levels of the settings."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = [*_renderers(settings), redaction_processor(settings)]
    structlog_processors: list[Any] = [_drop_below_level, *shared, *rendering]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _shorten_exception],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    structlog.configure(
        processors=structlog_processors,
        logger_factory=partial(DirectLogger, handler),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    _set_levels(settings)


class DirectLogger:
    """Writes rendered lines to the handler. Its level is that of the standard library's logger of the same name."""

    def __init__(self, handler: logging.StreamHandler[TextIO], name: str) -> None:
        self.name = name
        self._handler = handler
        self.is_enabled_for = logging.getLogger(name).isEnabledFor  # called for every line, because levels may change

    def write(self, text: str) -> None:
        """Write one line under the handler's lock. Errors go to `Handler.handleError`, as with `logging`."""
        handler = self._handler
        with handler.lock or contextlib.nullcontext():
            try:
                handler.stream.write(f"{text}\n")
                handler.flush()
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - as logging.StreamHandler has it
                handler.handleError(logging.LogRecord(self.name, logging.ERROR, "", 0, text, None, None))

    debug = info = warning = error = critical = exception = write


def _drop_below_level(logger: DirectLogger, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Drop events below the levels of LOG_LEVEL and LOG_LEVELS."""
    if logger.is_enabled_for(LEVELS[method]):
        return event
    raise structlog.DropEvent


def _shorten_exception(_: object, method: str, event: EventDict) -> EventDict:
    """Replace the traceback of a broker library's warning with its exception in one line."""
    if method == "warning" and str(event["logger"]).startswith(BROKER_LIBRARIES) and event.get("exc_info"):
        error = event.pop("exc_info")[1]
        event["reason"] = f"{type(error).__name__}: {error}"
    return event


def _renderers(settings: MediaSettings) -> list[Any]:
    as_console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    if as_console:  # plain tracebacks, because rich's show local variables, which contain URLs and keys
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)]


def _to_json(event: dict[str, Any], default: Callable[[Any], Any]) -> str:
    """Encode like `json.dumps`, which would create a new encoder for every line."""
    return _encoder(default).encode(event)


@cache
def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    return json.JSONEncoder(default=default)


def _set_levels(settings: MediaSettings) -> None:
    """Set LOG_LEVEL for all loggers, at least WARNING for verbose libraries, and the levels of LOG_LEVELS."""
    root = logging.getLogger()
    root.setLevel(settings.log_level)
    for library in VERBOSE_LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    for name, level in settings.log_levels.items():
        logging.getLogger(name).setLevel(level)


def configure_as_library() -> None:
    """Send structlog's lines to the standard library's loggers, unless the program has configured structlog.

    For programs that use the Python API: their logging configuration decides what is shown.
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
