"""Capture the log of this process as lines, for tests that check what operators read."""

import contextlib
import io
import json
import logging
import sys

import structlog

from worker.observability.logs import configure


class CapturedLog:
    def __init__(self):
        self.stream = io.StringIO()

    @property
    def text(self):
        return self.stream.getvalue()

    def read(self, event=None):
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if event in {None, line["event"]}]


@contextlib.contextmanager
def capture_log(settings, **changes):
    """Log in memory as a worker with these settings does; restore the logging configuration afterwards."""
    lines, root = CapturedLog(), logging.getLogger()
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(logger, logger.level) for logger in loggers]
    handlers, structured, stream = root.handlers[:], structlog.get_config(), sys.stderr
    was_configured = structlog.is_configured()
    sys.stderr = lines.stream
    try:
        configure(settings.model_copy(update={"log_format": "json"} | changes))
        structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
        yield lines
    finally:
        sys.stderr, root.handlers[:] = stream, handlers
        logging.captureWarnings(capture=False)
        for logger in root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.setLevel(logging.NOTSET)
        for logger, level in before:
            logger.setLevel(level)
        structlog.configure(**structured) if was_configured else structlog.reset_defaults()
