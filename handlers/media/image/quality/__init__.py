"""How coarsely a file is quantized, by its own tables: whether encoding it again would save anything."""

from handlers.media import EncodeOptions
from handlers.media.image.loader import OpenedImage
from handlers.media.image.quality import jpeg, webp
from schemas.formats import ImageFormat

RGB_BANDS = 3
LEAST = 40
"""The lowest quality with IMAGE_QUALITY=auto."""


def is_coarse(header: OpenedImage, options: EncodeOptions) -> bool:
    """Whether the file is as coarse already as we would store it, in a format that was requested.

    Encoding it again would lose quality and save nothing, also as JPEG if it is WebP. CMYK is encoded in any case.
    """
    quality = options.quality if options.ssim is None else LEAST
    if header.content_type == "image/jpeg" and header.bands <= RGB_BANDS:
        return options.format in {ImageFormat.AUTO, ImageFormat.JPEG} and jpeg.is_coarse(header.path, quality)
    if header.content_type == "image/webp":
        return options.format in {ImageFormat.AUTO, ImageFormat.WEBP} and webp.is_coarse(header.path, quality)
    return False
