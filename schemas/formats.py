"""What stored images become. A module of its own, since codec processes need it and little else."""

from enum import StrEnum


class ImageFormat(StrEnum):
    """What stored images become; `auto` is JPEG when opaque, WebP with alpha or animation."""

    AUTO = "auto"
    KEEP = "keep"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"
