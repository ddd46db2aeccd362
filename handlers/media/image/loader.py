"""Opening an image by the decoder of its type: libvips for most, libheif for HEIC, Pillow for others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import BY_CONTENT_TYPE, EncodeOptions, Limits

ANIMATED: Final = frozenset({"image/gif", "image/webp"})
"""Types whose frames libvips decodes."""
IN_MEMORY_BYTES: Final = 8 << 20
"""Images of up to this size are decoded to memory: a placeholder then takes 0.5 ms instead of 2.6."""
IN_MEMORY_FOR_VARIANTS: Final = 64 << 20
"""The same if variants are made, which would need a second decoding: 4096 x 4096 pixels with transparency."""
FAIL_ON: Final = "warning"  # a less strict level accepts a truncated JPEG
SAMPLE_BYTES: Final = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """The header of an image; nothing is decoded yet. Width and height are of one page, in pixels, as stored.

    `pixel_bytes` are the bytes of a decoded pixel. `is_kept`: no format of ours holds all of it. `image` can
    be read once, from top to bottom. `decode` takes the number of a page and is set instead of `image` if libvips is
    not the decoder.
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
        """Whether to decode all pixels to memory once, for the encoder, the placeholder and the variants."""
        maximum = IN_MEMORY_BYTES
        if options.variants:
            maximum = max(maximum, min(IN_MEMORY_FOR_VARIANTS, limits.max_memory // 16))
        return self.pages == 1 and self.width * self.height * self.pixel_bytes <= maximum

    @property
    def is_animated(self) -> bool:
        """Whether the pages are frames, which libvips puts one below the other."""
        return self.pages > 1 and self.content_type in ANIMATED

    def load(self, *, sequential: bool) -> pyvips.Image:
        """Open the pixels of the first page or of all frames, with orientation applied.

        `sequential`: they are read once, from top to bottom.
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
        """Decode the first frame, or all of them, to memory a second time, upright and smaller by a whole number."""
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
        """Open the pages after the first one by one, unless they are frames."""
        for page in range(1, 1 if self.is_animated else self.pages):
            if self.decode is not None:
                yield self.decode(page)
            else:
                yield _load(self.path, self.content_type, page=page, access="sequential")


def open_image(path: Path, content_type: str) -> OpenedImage:
    """Read the header of a file whose structure has been checked.

    Raises:
        FileCorruptedError: it is not what `content_type` says, or is incomplete.
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
    """Open by the loader of the type: if libvips chooses, it opens a JPEG with a gain map by another loader."""
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
    """Open CIELAB of 8 bits through Pillow: libvips reads it as its own format LABQ."""
    from PIL import Image  # noqa: PLC0415 - rarely needed

    def decode(_: int) -> pyvips.Image:
        with Image.open(path) as picture:
            content = picture.tobytes()
            image = pyvips.Image.new_from_memory(content, picture.width, picture.height, 3, "uchar")
        # a and b are signed; TIFF stores them as two's complement
        return ((image ^ [0, 128, 128]) * [100 / 255, 1, 1] - [0, 128, 128]).copy(interpretation="lab")

    with Image.open(path) as picture:
        width, height, pages = picture.width, picture.height, getattr(picture, "n_frames", 1)
    return OpenedImage(
        path, "image/tiff", width, height, pages, 3, 12, has_alpha=False, needs_rotation=False, decode=decode
    )
