"""Whether a file is quantized so coarsely, by its own tables, that encoding it again would save nothing."""

from handlers.media import EncodeOptions
from handlers.media.image.loader import OpenedImage
from handlers.media.image.quality import jpeg, webp
from schemas.formats import ImageFormat

RGB_BANDS = 3
MIN_QUALITY = 40
"""The lowest quality with IMAGE_QUALITY=auto."""


def is_coarse(header: OpenedImage, options: EncodeOptions) -> bool:
    """Whether a JPEG or WebP file has the requested format, and is quantized as coarsely already as we would encode it.

    With `auto`, both formats are the requested one: a WebP file of that kind would also not become smaller as JPEG.
    False for JPEG in CMYK, which is always encoded, and for all other types.
    """
    quality = options.quality if options.ssim is None else MIN_QUALITY
    if header.content_type == "image/jpeg" and header.bands <= RGB_BANDS:
        return options.format in {ImageFormat.AUTO, ImageFormat.JPEG} and jpeg.is_coarse(header.path, quality)
    if header.content_type == "image/webp":
        return options.format in {ImageFormat.AUTO, ImageFormat.WEBP} and webp.is_coarse(header.path, quality)
    return False
