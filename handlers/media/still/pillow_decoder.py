"""Pictures that Pillow decodes instead of libvips: BMP, TGA, JPEG 2000, PSD and ICO. Runs in a codec process.

A picture is compressed like any other if our output formats hold its pixels (MODES). A file with several pictures
(layers of a PSD, sizes of an icon), or with other pixels, is decoded and kept.
"""

import warnings
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyvips
from PIL import Image

from handlers.errors import FileCorruptedError
from handlers.media.formats import mapped
from handlers.media.metadata.scrub_stills import metadata_fields
from handlers.media.still import psd

DECODERS: Final = {
    "image/bmp": "BMP",
    "image/x-tga": "TGA",
    "image/jp2": "JPEG2000",
    "image/vnd.adobe.photoshop": "PSD",
    "image/vnd.microsoft.icon": "ICO",
}
"""Pillow's name of the format of each type."""
MODES: Final = {"1": "L", "L": "L", "LA": "LA", "P": "RGBA", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA"}
"""Pillow's modes whose pixels our output formats hold, and the mode to which each is converted."""
BANDS: Final = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
ERRORS: Final = (ValueError, SyntaxError, OSError, EOFError, RuntimeError, IndexError, KeyError, TypeError)
"""The errors that Pillow raises for a file that it cannot decode."""
MAX_ICONS: Final = 64


class Still(NamedTuple):
    """The header of a picture. Its fields have the same meaning as those of `OpenedImage`."""

    width: int
    height: int
    pages: int
    bands: int
    has_alpha: bool
    is_kept: bool


def read_header(path: Path, content_type: str) -> Still:
    """Read the header of a picture.

    Raises:
        FileCorruptedError: Pillow cannot read the picture, or it is an icon of more than MAX_ICONS pictures.
    """
    Image.MAX_IMAGE_PIXELS = None  # we check our own limits
    kind = DECODERS[content_type]
    try:
        with _open(path, kind) as picture:
            mode, size = MODES.get(picture.mode), picture.size
            pages = len(_icons(picture)) if kind == "ICO" else 1
    except ERRORS as error:
        raise FileCorruptedError(f"the content is not {content_type}: {error}") from None
    is_kept = mode is None or (kind == "PSD" and not _is_flat(path))
    return Still(*size, pages, BANDS[mode or "RGBA"], has_alpha=mode in {"LA", "RGBA"}, is_kept=is_kept)


def _open(path: Path, kind: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an icon whose entry and picture differ in size
        return Image.open(path, formats=[kind])


def _is_flat(path: Path) -> bool:
    """Whether a PSD has no layers and at most four channels, so that the merged picture has all of its content."""
    with mapped(path) as content:
        header = psd.read_header(content)
    return header.layer_bytes == 0 and header.channels <= BANDS["RGBA"]


def _icon_reader(picture: Image.Image) -> Any:  # noqa: ANN401 - Pillow has no type for it
    """Return Pillow's object that lists and decodes the pictures of an icon."""
    return picture.ico  # type: ignore[attr-defined]  # only icons have it


def _icons(picture: Image.Image) -> list[Any]:
    entries: list[Any] = _icon_reader(picture).entry
    if len(entries) > MAX_ICONS:
        raise FileCorruptedError(f"the icon has {len(entries)} pictures; {MAX_ICONS} are allowed")
    return entries


def decode(path: Path, content_type: str, page: int) -> pyvips.Image:
    """Decode the picture; of an icon, the picture with the index `page`. Raises FileCorruptedError."""
    kind = DECODERS[content_type]
    try:
        with _open(path, kind) as opened:
            picture = _icon_reader(opened).frame(page) if kind == "ICO" else opened
            picture.load()
            mode = MODES.get(picture.mode, "RGB")
            if picture.mode == "P" and "transparency" not in picture.info:
                mode = "RGB"
            content = picture.convert(mode).tobytes()
    except ERRORS as error:
        raise FileCorruptedError(f"the image does not decode completely: {error}") from None
    image = pyvips.Image.new_from_memory(content, *picture.size, BANDS[mode], "uchar")
    image = image.copy(interpretation="b-w" if BANDS[mode] < BANDS["RGB"] else "srgb")
    return _with_metadata(image, path, content_type, opened.info.get("icc_profile"))


def _with_metadata(image: pyvips.Image, path: Path, content_type: str, profile: bytes | None) -> pyvips.Image:
    """Return the image with its profile, XMP and EXIF. Pillow does not rotate it, so its orientation is set to 1."""
    with mapped(path) as content:
        fields = metadata_fields(content, content_type)
    if profile:
        fields["icc-profile-data"] = profile
    image = image.copy()
    for name, value in fields.items():
        image.set_type(pyvips.GValue.blob_type, name, value)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    return image
