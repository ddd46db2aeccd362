"""Kinds of valid TIFF files that our libvips does not decode. They are stored without encoding them.

After libvips has failed, the tags of a file tell whether it is of such a kind. Pillow decodes most of these files,
which finds damage and gives a placeholder. Of the others, only the size of uncompressed or deflated pixels is checked.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media.formats import COPY_BYTES, Content, mapped, tiff

WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, PLANAR = 256, 257, 258, 259, 277, 284
STRIP_OFFSETS, STRIP_SIZES = 273, 279
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
EXTRA_SAMPLES: Final = 338
OLD_JPEG_OFFSET: Final = tiff.OLD_JPEG_STREAM[0]
NEEDED: Final = frozenset({WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, PLANAR, TILE_WIDTH, TILE_LENGTH, OLD_JPEG_OFFSET})
UNCOMPRESSED, OLD_JPEG = 1, 6
DEFLATE: Final = frozenset({8, 32946})
COMPRESSIONS: Final = {
    OLD_JPEG: "JPEG compression of TIFF 6.0",
    34661: "JBIG compression",
    34712: "JPEG 2000 compression",
    34887: "LERC compression",
    34925: "LZMA compression",
    50000: "ZSTD compression",
    50001: "WebP compression",
    50002: "JPEG XL compression",
}
SEPARATE: Final = 2
PHOTOMETRIC, YCBCR = 262, 6
OTHER_BITS: Final = frozenset(range(1, 65)) - {1, 2, 4, 8, 16, 32}
SHOWN_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "CMYK"})
"""Pillow's modes of 8 bits or less."""
Tags = dict[int, tuple[int, ...]]


class UnsupportedTiff(NamedTuple):
    """A file that libvips does not support. Width and height, in pixels, and `pixel_bytes` are those of the first page.

    `reason` says what libvips does not support.
    """

    width: int
    height: int
    pages: int
    pixel_bytes: int
    reason: str


def unsupported_kind(source: Path, max_pages: int) -> UnsupportedTiff | None:
    """Return the file's size, and what in its tags libvips does not support; None if there is nothing, or no size.

    At most `max_pages` + 1 pages are read. After libvips has failed, None means that the file is damaged.

    Raises:
        FileCorruptedError: a directory of tags is damaged.
    """
    pages, reason, first = 0, None, None
    with mapped(source) as content:
        for tags in _pages(content, max_pages + 1, NEEDED):
            if not _has_size(tags):
                return None
            pages, reason, first = pages + 1, reason or _unsupported(tags), first or tags
    if reason is None or first is None:
        return None
    bits = first.get(SAMPLES, (1,))[0] * max(first.get(BITS, (1,)))
    return UnsupportedTiff(first[WIDTH][0], first[LENGTH][0], pages, -(-bits // 8), reason)


def has_unknown_channel(source: Path) -> bool:
    """Whether the first page has a channel of unknown meaning besides its colours (ExtraSamples 0)."""
    with mapped(source) as content:
        try:
            first = next(_pages(content, 1, frozenset({EXTRA_SAMPLES})))
        except FileCorruptedError:
            return False
    return 0 in first.get(EXTRA_SAMPLES, ())


def check_pixel_bytes(source: Path, max_pages: int) -> None:
    """Check that uncompressed or deflated pixels have at least the bytes that each page's size and depth need.

    Pages of other compressions are not checked.

    Raises:
        FileCorruptedError: the pixels have fewer bytes, or do not inflate.
    """
    with mapped(source) as content:
        for tags in _pages(content, max_pages, tiff.PIXEL_TAGS):
            _check_page_bytes(content, tags)


def decode_by_pillow(source: Path) -> pyvips.Image | None:
    """Decode every page; return the first one as 8-bit RGBA.

    Return None if Pillow does not support the file either, or if the first page's mode is not one of SHOWN_MODES.

    Raises:
        FileCorruptedError: a page does not decode.
    """
    from PIL import Image, ImageSequence, UnidentifiedImageError  # noqa: PLC0415 - rarely needed

    Image.MAX_IMAGE_PIXELS = None  # our own limits have been checked
    try:
        with Image.open(source, formats=["TIFF"]) as image:
            for page in ImageSequence.Iterator(image):
                page.load()
            image.seek(0)
            if image.mode not in SHOWN_MODES:
                return None
            first = image.convert("RGBA")
    except UnidentifiedImageError:
        return None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        raise FileCorruptedError(f"the image does not decode completely: {error}") from None
    found = pyvips.Image.new_from_memory(first.tobytes(), first.width, first.height, 4, "uchar")
    return found.copy(interpretation="srgb")


def _pages(content: Content, maximum: int, wanted: frozenset[int]) -> Iterator[Tags]:
    """Yield the wanted tags, without those that have no value, of each of the first `maximum` pages."""
    layout, at = tiff.read_header(content)
    for _ in range(maximum):
        if not at:
            return
        tags = tiff.read_tags(content, at, layout, wanted)
        yield {tag: values for tag, values in tags.items() if values}
        at = tiff.next_directory(content, at, layout)


def _has_size(tags: Tags) -> bool:
    sizes = (WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH) if TILE_WIDTH in tags else (WIDTH, LENGTH)
    return all(tags.get(tag, (0,))[0] > 0 for tag in sizes)


def _unsupported(tags: Tags) -> str | None:
    compression, bits = tags.get(COMPRESSION, (UNCOMPRESSED,))[0], set(tags.get(BITS, (1,)))
    if compression in COMPRESSIONS:
        is_stream = compression != OLD_JPEG or OLD_JPEG_OFFSET in tags
        return COMPRESSIONS[compression] if is_stream else None
    if len(bits) == 1 and bits <= OTHER_BITS:
        return f"{max(bits)} bits a sample"
    if tags.get(PLANAR) == (SEPARATE,) and TILE_WIDTH in tags:
        return "tiles of single colours"
    return None


def _check_page_bytes(content: Content, tags: Tags) -> None:
    compression = tags.get(COMPRESSION, (UNCOMPRESSED,))[0]
    if not (compression == UNCOMPRESSED or compression in DEFLATE):
        return
    needed = _needed_bytes(tags)
    offsets, sizes = (TILE_OFFSETS, TILE_SIZES) if TILE_WIDTH in tags else (STRIP_OFFSETS, STRIP_SIZES)
    found = 0
    for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=True):
        if compression == UNCOMPRESSED:
            found += size
        elif found < needed:
            found += _inflated_bytes(content[offset : offset + size])
    if found < needed:
        raise FileCorruptedError(f"the image's pixels need {needed:,} bytes, and there are {found:,}")


def _needed_bytes(tags: Tags) -> int:
    """Return how many bytes a page's uncompressed pixels need; each row is padded to whole bytes.

    In YCbCr only the luma is counted, since the colours may be subsampled.
    """
    width, height, samples = tags[WIDTH][0], tags[LENGTH][0], tags.get(SAMPLES, (1,))[0]
    if tags.get(PHOTOMETRIC) == (YCBCR,):
        samples = 1
    planes = samples if tags.get(PLANAR) == (SEPARATE,) else 1
    parts = 1
    if TILE_WIDTH in tags:
        tile_width, tile_height = tags[TILE_WIDTH][0], tags[TILE_LENGTH][0]
        parts = -(-width // tile_width) * -(-height // tile_height)
        width, height = tile_width, tile_height
    row = -(-width * (samples // planes) * max(tags.get(BITS, (1,))) // 8)
    return row * height * parts * planes


def _inflated_bytes(packed: bytes) -> int:
    """Return how many bytes a strip or a tile inflates to. Raises FileCorruptedError if inflating fails."""
    inflater, found = zlib.decompressobj(), 0
    try:
        while packed and not inflater.eof:
            found += len(inflater.decompress(packed, COPY_BYTES))
            packed = inflater.unconsumed_tail
    except zlib.error as error:
        raise FileCorruptedError(f"the image does not decode completely: {error}") from None
    return found
