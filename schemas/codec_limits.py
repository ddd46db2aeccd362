"""Limits of the texts in a codec process's answer. Codec processes import this module, so it must not use pydantic."""

from typing import Final

MAX_LOG_LINES: Final = 20
"""Log lines of one request. A decoder may log a warning for every pixel."""
MAX_LOG_CHARACTERS: Final = 2_000
MAX_LOGGER_CHARACTERS: Final = 100
MAX_ERROR_CHARACTERS: Final = 1_000
