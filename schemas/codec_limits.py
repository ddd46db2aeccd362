"""The largest texts that a codec process may answer with. Imported by codec processes: no pydantic here."""

from typing import Final

MAX_LOG_LINES: Final = 20
"""Log lines of one request: a decoder may complain about every pixel."""
MAX_LOG_CHARACTERS: Final = 2_000
MAX_LOGGER_CHARACTERS: Final = 100
MAX_ERROR_CHARACTERS: Final = 1_000
