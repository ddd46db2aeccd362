"""Opening an image by the decoder of its own type: libvips' for most, libheif for HEIC, Pillow for CIELAB."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import BY_CONTENT_TYPE
from handlers.media.structure import end_of

ANIMATED: Final = frozenset({"image/gif", "image/webp"})
FAIL_ON: Final = "warning"  # less would take a truncated JPEG for whole
SAMPLE_BYTES: Final = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file says of itself; nothing is decoded yet. Width and height are one page's, in pixels, as stored.

    `pixel_bytes` is what a decoded pixel takes. `image` is open to be read in order, once; `decode` takes a page's
    number. One of the two is there: `decode` where libvips is not the decoder.
    """

    path: Path
    content_type: str
    width: int
    height: int
    pages: int
    bands: int
    pixel_bytes: int
    has_alpha: bool
    is_turned: bool
    image: pyvips.Image | None = None
    decode: Callable[[int], pyvips.Image] | None = None

    @property
    def is_animated(self) -> bool:
        """Whether the pages are frames that libvips puts one below the other."""
        return self.pages > 1 and self.content_type in ANIMATED

    def load(self, *, in_order: bool) -> pyvips.Image:
        """Open the pixels, all frames of an animation, upright. `in_order`: each is looked at once."""
        if self.decode is not None:
            return self.decode(0)
        is_in_order = in_order and not self.is_turned
        if is_in_order and not self.is_animated:
            return self.image
        options: dict[str, Any] = {"n": -1} if self.is_animated else {}
        if is_in_order:
            options["access"] = "sequential"
        image = self._loaded(**options)
        return image.autorot() if self.is_turned else image

    def other_pages(self) -> Iterator[pyvips.Image]:
        """Open the pages after the first one by one, where they are no frames."""
        for page in range(1, 1 if self.is_animated else self.pages):
            yield self.decode(page) if self.decode else self._loaded(page=page, access="sequential")

    def _loaded(self, **options: object) -> pyvips.Image:
        return _loaded(self.path, self.content_type, **options)


def opened(path: Path, content_type: str) -> Opened:
    """Read a file's header.

    Raises:
        FileCorruptedError: it is not what `content_type` says, or lacks its end.
    """
    end_of(path, content_type)
    if content_type == "image/heic":
        return _heic(path)
    try:
        image = _loaded(path, content_type, access="sequential")
    except pyvips.Error as error:
        if content_type == "image/tiff" and "labq" in str(error):
            return _lab(path)
        raise FileCorruptedError(f"the content is not {content_type}: {' '.join(str(error).split())[:200]}") from None
    try:
        fields = image.get_fields()
    except UnicodeDecodeError:
        raise FileCorruptedError(f"the content is not {content_type}: a field of it has no readable name") from None
    return Opened(
        path,
        content_type,
        width=image.width,
        height=image.height,
        pages=int(image.get("n-pages")) if "n-pages" in fields else 1,
        bands=image.bands,
        pixel_bytes=image.bands * SAMPLE_BYTES.get(image.format, 8),
        has_alpha=bool(image.hasalpha()),
        is_turned="orientation" in fields and image.get("orientation") > 1,
        image=image,
    )


def _loaded(path: Path, content_type: str, **options: object) -> pyvips.Image:
    """Open by the type's own loader: left to choose, libvips opens a JPEG with a gain map by another one."""
    loader: Callable[..., pyvips.Image] = getattr(pyvips.Image, str(BY_CONTENT_TYPE[content_type].reader))
    return loader(str(path), fail_on=FAIL_ON, **options)


def _heic(path: Path) -> Opened:
    from handlers.media.image import heic  # noqa: PLC0415 - rarely needed

    file = heic.opened(path)
    sizes = [picture.size for picture in file]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    bands = heic.BANDS[file.mode]
    decode = partial(heic.decoded, file)
    return Opened(
        path,
        "image/heic",
        width,
        height,
        pages=len(sizes),
        bands=bands,
        pixel_bytes=bands,
        has_alpha=file.has_alpha,
        is_turned=False,
        decode=decode,
    )


def _lab(path: Path) -> Opened:
    """Read CIELAB of 8 bits through Pillow: libvips takes it for a format of its own."""
    from PIL import Image  # noqa: PLC0415 - rarely needed

    def decode(_: int) -> pyvips.Image:
        with Image.open(path) as picture:
            content = picture.tobytes()
            image = pyvips.Image.new_from_memory(content, picture.width, picture.height, 3, "uchar")
        # Colours are signed, and TIFF codes them as two's complement.
        return ((image ^ [0, 128, 128]) * [100 / 255, 1, 1] - [0, 128, 128]).copy(interpretation="lab")

    with Image.open(path) as picture:
        width, height, pages = picture.width, picture.height, getattr(picture, "n_frames", 1)
    return Opened(path, "image/tiff", width, height, pages, 3, 12, has_alpha=False, is_turned=False, decode=decode)
