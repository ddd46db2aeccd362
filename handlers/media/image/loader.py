"""Opening an image with the decoder of its type: libvips for most types, libheif for HEIC, Pillow for others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import BY_CONTENT_TYPE, EncodeOptions, Limits
from handlers.media.metadata import with_xmp, xmp_of_file

ANIMATED: Final = frozenset({"image/gif", "image/webp"})
"""Types whose animations libvips decodes."""
IN_MEMORY_BYTES: Final = 8 << 20
"""Images of up to this decoded size are decoded to memory: a placeholder then takes 0.5 ms instead of 2.6."""
IN_MEMORY_FOR_VARIANTS: Final = 64 << 20
"""The same limit if variants are made, which would otherwise need a second decoding: 4096 x 4096 pixels with alpha.
It is lowered to a sixteenth of the memory that a codec process may use."""
FAIL_ON: Final = "warning"  # a less strict level accepts a truncated JPEG
SAMPLE_BYTES: Final = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """The header of an image; pixels are not decoded yet.

    `width` and `height` are in pixels: of the first page before rotation, and in HEIC of the largest picture after it.
    `pixel_bytes` is the size in bytes of a decoded pixel. `is_kept`: none of our output formats holds all of the image.
    `image` has the first page; its pixels can be read once, from top to bottom. If libvips is not the decoder, `image`
    is None and `decode` returns the page with a number, from 0.
    """

    path: Path
    content_type: str
    width: int
    height: int
    pages: int
    bands: int
    pixel_bytes: int
    has_alpha: bool
    needs_rotation: bool
    is_kept: bool = False
    image: pyvips.Image | None = None
    decode: Callable[[int], pyvips.Image] | None = None

    def fits_in_memory(self, options: EncodeOptions, limits: Limits) -> bool:
        """Whether the image is small enough to decode it to memory once, for encoder, placeholder and variants."""
        maximum = IN_MEMORY_BYTES
        if options.variants:
            maximum = max(maximum, min(IN_MEMORY_FOR_VARIANTS, limits.max_memory // 16))
        return self.pages == 1 and self.width * self.height * self.pixel_bytes <= maximum

    @property
    def is_animated(self) -> bool:
        """Whether the pages are frames of a GIF or WebP animation, which libvips puts one below the other."""
        return self.pages > 1 and self.content_type in ANIMATED

    def load(self, *, sequential: bool) -> pyvips.Image:
        """Return the first page, or all frames of an animation, with orientation applied.

        `sequential`: the caller reads the pixels only once, from top to bottom.
        """
        if self.decode is not None:
            return self.decode(0)
        can_stream = sequential and not self.needs_rotation
        if can_stream and not self.is_animated:
            return self.image
        options: dict[str, Any] = {"n": -1} if self.is_animated else {}
        if can_stream:
            options["access"] = "sequential"
        image = _load(self.path, self.content_type, **options)
        return image.autorot() if self.needs_rotation else image

    def reopen(self, *, all_frames: bool, shrink: int) -> pyvips.Image:
        """Decode the first page, or all frames, to memory a second time, with orientation applied.

        The sides are divided by `shrink`. With `all_frames`, only a JPEG becomes smaller, by 8 at most.
        """
        again = open_image(self.path, self.content_type)
        if self.is_animated and not all_frames and again.image is not None:
            image = again.image.copy_memory().autorot()
        elif self.content_type == "image/jpeg" and not self.needs_rotation and shrink > 1:
            at_load = next(factor for factor in (8, 4, 2) if factor <= shrink)
            image = _load(self.path, self.content_type, access="sequential", shrink=at_load)
            shrink //= at_load
        else:
            image = again.load(sequential=True)
        if shrink > 1 and not all_frames:
            image = _shrunk(image, shrink)
        return image.copy_memory()

    def other_pages(self) -> Iterator[pyvips.Image]:
        """Yield the pages after the first one, opened one by one; none if the pages are frames."""
        for page in range(1, 1 if self.is_animated else self.pages):
            if self.decode is not None:
                yield self.decode(page)
            else:
                yield _load(self.path, self.content_type, page=page, access="sequential")


def open_image(path: Path, content_type: str) -> OpenedImage:
    """Read the header of a file whose structure has been checked.

    Raises:
        FileCorruptedError: the file is not what `content_type` says, or is incomplete.
        FileTypeNotSupportedError: a HEIC file has pixels of a layout that we do not know.
        DecoderLimitError: a HEIC file exceeds a limit of libheif.
    """
    if content_type == "image/heic":
        return _open_heic(path)
    if BY_CONTENT_TYPE[content_type].reader is None:
        return _open_still(path, content_type)
    try:
        image = _load(path, content_type, access="sequential")
    except pyvips.Error as error:
        if content_type == "image/tiff" and "labq" in str(error):
            return _open_lab(path)
        raise FileCorruptedError(f"the content is not {content_type}: {' '.join(str(error).split())[:200]}") from None
    return OpenedImage(
        path,
        content_type,
        width=image.width,
        height=image.height,
        pages=int(image.get("n-pages")) if image.get_typeof("n-pages") else 1,
        bands=image.bands,
        pixel_bytes=image.bands * SAMPLE_BYTES.get(image.format, 8),
        has_alpha=bool(image.hasalpha()),
        needs_rotation=bool(image.get_typeof("orientation")) and image.get("orientation") > 1,
        image=image,
    )


def _load(path: Path, content_type: str, **options: object) -> pyvips.Image:
    """Open a file with the loader of its type. libvips would choose another loader for a JPEG with a gain map."""
    loader: Callable[..., pyvips.Image] = getattr(pyvips.Image, str(BY_CONTENT_TYPE[content_type].reader))
    return loader(str(path), fail_on=FAIL_ON, **options)


def _shrunk(image: pyvips.Image, factor: int) -> pyvips.Image:
    if not image.hasalpha():
        return image.shrink(factor, factor)
    return image.premultiply().shrink(factor, factor).unpremultiply().cast(image.format)


def _open_heic(path: Path) -> OpenedImage:
    from handlers.media.image import heic  # noqa: PLC0415 - rarely needed

    file = heic.open_file(path)
    width, height = max((picture.size for picture in file), key=lambda size: size[0] * size[1])
    bands = heic.BANDS[file.mode]
    return OpenedImage(
        path,
        "image/heic",
        width,
        height,
        pages=len(file),
        bands=bands,
        pixel_bytes=2 * bands if file.mode == heic.DEEP_GREY else bands,
        has_alpha=file.has_alpha,
        needs_rotation=False,
        decode=partial(heic.decode, file),
    )


def _open_still(path: Path, content_type: str) -> OpenedImage:
    from handlers.media.still import pillow_decoder  # noqa: PLC0415 - rarely needed

    still = pillow_decoder.read_header(path, content_type)
    decode = partial(pillow_decoder.decode, path, content_type)
    return OpenedImage(
        path, content_type, **still._asdict(), pixel_bytes=still.bands, needs_rotation=False, decode=decode
    )


def _open_lab(path: Path) -> OpenedImage:
    """Open a TIFF in CIELAB of 8 bits through Pillow, because libvips takes it for its own format LABQ.

    `decode` returns the first page for every number.
    """
    from PIL import Image  # noqa: PLC0415 - rarely needed

    def decode(_: int) -> pyvips.Image:
        with Image.open(path) as picture:
            content = picture.tobytes()
            image = pyvips.Image.new_from_memory(content, picture.width, picture.height, 3, "uchar")
        # a and b are signed; TIFF stores them as two's complement
        image = ((image ^ [0, 128, 128]) * [100 / 255, 1, 1] - [0, 128, 128]).copy(interpretation="lab")
        xmp = xmp_of_file(path, "image/tiff")
        return with_xmp(image, xmp) if xmp else image

    with Image.open(path) as picture:
        width, height, pages = picture.width, picture.height, getattr(picture, "n_frames", 1)
    return OpenedImage(
        path, "image/tiff", width, height, pages, 3, 12, has_alpha=False, needs_rotation=False, decode=decode
    )
