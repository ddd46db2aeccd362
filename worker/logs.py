"""How log lines look: JSON for machines, colours for a terminal; the same context bound to every line of an attempt.

The domain logs through the standard library (`async_file_processor` and below); structlog renders everything in one
place, and `redact.py` looks at every line before it leaves.
"""

import logging
import sys
from typing import Any, Final

import structlog

from handlers.settings import MediaSettings
from worker.redact import processor

CHATTY: Final = ("httpx", "httpcore", "hpack", "aio_pika", "aiormq", "aiohttp.access", "urllib3", "PIL")
"""Libraries that tell every request, some with its headers: warnings alone, unless LOG_LEVELS names them."""


def configure(settings: MediaSettings) -> None:
    """Send all logging to standard error in the configured form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings),
                processor(settings),
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    _set_levels(settings)


def _renderers(settings: MediaSettings) -> list[Any]:
    as_console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    if as_console:  # tracebacks without the local variables that rich would show: they hold URLs and keys
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _set_levels(settings: MediaSettings) -> None:
    """Set LOG_LEVEL for all, quiet for libraries, and what LOG_LEVELS says of modules."""
    root = logging.getLogger()
    root.setLevel(settings.log_level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    for name, level in settings.log_levels.items():
        logging.getLogger(name).setLevel(level)


def as_library() -> None:
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
