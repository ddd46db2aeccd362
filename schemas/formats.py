"""Image formats. A separate module, because codec processes import it and must stay small."""

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
