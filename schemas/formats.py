"""Image formats, and limits of the texts in a codec process's answer.

Codec processes import this module and must stay small, so it must not use pydantic.
"""

from enum import StrEnum
from typing import Final


class ImageFormat(StrEnum):
    """The format in which images are stored. `auto`: JPEG if opaque, WebP with an alpha channel or animation."""

    AUTO = "auto"
    KEEP = "keep"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"


SKIPPED: Final = "type_skipped"
"""The code of a file that was not stored on purpose. It is listed with the failed files, but it is no failure."""

MAX_LOG_LINES: Final = 20
"""Maximum number of log lines in one answer of a codec process. A decoder may log a warning for every pixel."""
MAX_LOG_CHARACTERS: Final = 2_000
MAX_LOGGER_CHARACTERS: Final = 100
MAX_ERROR_CHARACTERS: Final = 1_000
