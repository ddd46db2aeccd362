"""Images: decoded whole and compressed in the same pass, by libvips. Runs in a codec process.

What an image becomes: see `_wanted`. Whatever is asked, a stored image is never larger than its original (which is
kept instead), never turned, never of another colour, and never loses transparency or animation.
"""

from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Limits, Prepared
from handlers.media.describe import describe
from handlers.media.thumbhash import thumbhash
from schemas.jobs import ImageFormat, Profile

LOADERS: Final = {
    "image/jpeg": "jpegload",
    "image/png": "pngload",
    "image/webp": "webpload",
    "image/gif": "gifload",
    "image/avif": "heifload",
    "image/tiff": "tiffload",
}
CONTENT_TYPES: Final = {"jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
MAX_SIDE: Final = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384}
"""Longest side in pixels each format can hold; larger images are kept."""
ANIMATED: Final = frozenset({"image/gif", "image/webp"})
PLACEHOLDER_SIDE: Final = 32
FAIL_ON: Final = "warning"  # less would take a truncated JPEG for whole


def prepare(source: Path, target: Path, content_type: str, profile: Profile, limits: Limits) -> Prepared:
    """Validate an image whole and compress it to `target`; the original is kept where that gains nothing.

    Raises:
        FileCorruptedError: it is not what `content_type` says, or does not decode whole.
        DecoderLimitError: it has more pixels, all frames together, than `limits` allow.
    """
    if content_type == "image/heic":
        return _heic(source)
    header = _header(source, content_type, limits)
    if profile.format is ImageFormat.KEEP or _must_be_kept(header, source, content_type):
        return _validated(source, header, content_type)
    image = _opened(source, header)
    flat = _without_idle_alpha(image)
    wanted = _wanted(flat, profile.format)
    if not _fits(flat, wanted):
        return _validated(source, header, content_type)
    _write(_in_srgb(flat), target, wanted, profile)
    placeholder = _placeholder(pyvips.Image.thumbnail(str(target), PLACEHOLDER_SIDE))
    shape = {"width": flat.width, "height": flat.get_page_height(), "frames": _frames(flat), "thumbhash": placeholder}
    if target.stat().st_size >= source.stat().st_size:
        target.unlink()
        return describe(source, content_type, **shape)
    return describe(target, CONTENT_TYPES[wanted], **shape)


def _header(source: Path, content_type: str, limits: Limits) -> pyvips.Image:
    """Read the header and refuse what would be too large to decode."""
    image = pyvips.Image.new_from_file(str(source))
    loader = str(image.get("vips-loader")).removesuffix("_file")
    if loader != LOADERS[content_type]:
        raise FileCorruptedError(f"the content is not {content_type}: it opens by {loader}")
    frames = _pages(image)
    pixels = image.width * image.height * frames
    if pixels > limits.max_pixels:
        raise DecoderLimitError(
            f"the image has {pixels:,} pixels ({image.width}x{image.height}, {frames} frames), "
            f"and MAX_IMAGE_PIXELS allows {limits.max_pixels:,}"
        )
    return image


def _pages(image: pyvips.Image) -> int:
    return int(image.get("n-pages")) if "n-pages" in image.get_fields() else 1


def _frames(image: pyvips.Image) -> int:
    return int(image.height // image.get_page_height())


def _must_be_kept(header: pyvips.Image, source: Path, content_type: str) -> bool:
    """Whether re-encoding would lose frames or pages: libvips reads one of an APNG, AVIF sequence or TIFF document."""
    if content_type == "image/png":
        with source.open("rb") as file:
            return b"acTL" in file.read(65536).partition(b"IDAT")[0]
    return _pages(header) > 1 and content_type not in ANIMATED


def _opened(source: Path, header: pyvips.Image) -> pyvips.Image:
    """Open for one pass; images that are looked at twice (alpha, rotation) are held in memory or a temporary file."""
    options: dict[str, Any] = {"fail_on": FAIL_ON}
    if _pages(header) > 1:
        options["n"] = -1
    is_turned = "orientation" in header.get_fields() and header.get("orientation") > 1
    if not header.hasalpha() and not is_turned:
        options["access"] = "sequential"
    return pyvips.Image.new_from_file(str(source), **options).autorot()


def _validated(source: Path, header: pyvips.Image, content_type: str) -> Prepared:
    """Decode every page and keep the file as it is."""
    pages = _pages(header)
    is_strip = pages > 1 and content_type in ANIMATED
    image = pyvips.Image.new_from_file(str(source), fail_on=FAIL_ON, **({"n": -1} if is_strip else {}))
    image.avg()
    first = image.crop(0, 0, image.width, image.get_page_height()).autorot()
    placeholder = _placeholder(first.thumbnail_image(PLACEHOLDER_SIDE))
    for page in range(1, 1 if is_strip else pages):
        pyvips.Image.new_from_file(str(source), fail_on=FAIL_ON, access="sequential", page=page).avg()
    return describe(
        source,
        content_type,
        width=first.width,
        height=first.height,
        frames=pages,
        thumbhash=placeholder,
    )


def _without_idle_alpha(image: pyvips.Image) -> pyvips.Image:
    """Drop an alpha channel that is opaque everywhere."""
    if not image.hasalpha():
        return image
    alpha = image[image.bands - 1]
    opaque = {"ushort": 65535, "uchar": 255}.get(image.format)
    if opaque is None or alpha.min() < opaque:
        return image
    return image.extract_band(0, n=image.bands - 1)


def _wanted(image: pyvips.Image, asked: ImageFormat) -> str:
    """Choose the format: JPEG holds neither transparency nor animation, and only WebP animates."""
    if _frames(image) > 1:
        return "webp"
    if asked in {ImageFormat.AUTO, ImageFormat.JPEG}:
        return "webp" if image.hasalpha() else "jpeg"
    return asked.value


def _fits(image: pyvips.Image, wanted: str) -> bool:
    return max(int(image.width), int(image.get_page_height())) <= MAX_SIDE[wanted]


def _in_srgb(image: pyvips.Image) -> pyvips.Image:
    """Bring any colour space, profile and depth to what every viewer shows alike: 8-bit sRGB or grey."""
    if image.interpretation == "cmyk" or "icc-profile-data" in image.get_fields():
        try:
            fallback = "cmyk" if image.interpretation == "cmyk" else "srgb"
            image = image.icc_transform("srgb", embedded=True, input_profile=fallback, depth=8)
        except pyvips.Error:
            pass  # a profile that cannot be used is ignored, as browsers do
    is_grey = image.interpretation in {"b-w", "grey16"}
    return image.colourspace("b-w" if is_grey else "srgb").cast("uchar")


def _write(image: pyvips.Image, target: Path, wanted: str, profile: Profile) -> None:
    """Encode, which pulls the whole image through its decoder."""
    options: dict[str, Any] = {"Q": profile.quality, "keep": "none" if profile.strip_metadata else "exif|xmp|iptc"}
    if wanted == "jpeg":
        # Optimised Huffman tables cost a quarter more time for 2% of the bytes.
        image.jpegsave(str(target), **options)
    elif wanted == "webp":
        # Effort 4, the default, takes twice as long as 2 for 5% of the bytes.
        image.webpsave(str(target), effort=2, **options)
    else:
        image.heifsave(str(target), compression="av1", effort=3, bitdepth=8, **options)


def _placeholder(small: pyvips.Image) -> str:
    """Hash a picture of at most PLACEHOLDER_SIDE pixels a side."""
    if max(small.width, small.height) > PLACEHOLDER_SIDE:
        small = small.thumbnail_image(PLACEHOLDER_SIDE)
    small = small.colourspace("srgb").cast("uchar")
    rgba = small if small.hasalpha() else small.addalpha().cast("uchar")
    return thumbhash(rgba.width, rgba.height, bytes(rgba.write_to_memory()))


def _heic(source: Path) -> Prepared:
    """Check the boxes alone: the libvips we ship with cannot decode HEVC."""
    from handlers.media.boxes import check_boxes  # noqa: PLC0415 - rarely needed

    check_boxes(source, needed=b"meta")
    return describe(source, "image/heic")
