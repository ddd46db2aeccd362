"""SVG: stored after `sanitizer` has removed scripts and references to anything outside of the file."""

import io
import math
import re
from pathlib import Path
from typing import Final

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits
from handlers.media.formats import Content, check_structure
from handlers.media.vector.sanitizer import sanitize
from handlers.media.xml_reader import XmlReader

MAX_BYTES: Final = 32 << 20
MAX_ELEMENTS: Final = 500_000
MAX_SIDE: Final = 1_000_000
LENGTH: Final = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)(?:px)?\s*")
ROOTS: Final = frozenset({"http://www.w3.org/2000/svg}svg", "svg"})


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,  # noqa: ARG001 - the same
) -> Decoded:
    """Write the sanitised picture to `target`.

    Raises:
        FileCorruptedError: it is not well-formed, its root is not `svg`, or its document type contains declarations.
        DecoderLimitError: it has more than MAX_BYTES or MAX_ELEMENTS, or elements are nested too deeply.
    """
    check_structure(source, content_type)
    root, sanitized = sanitize(source.read_bytes())
    target.write_bytes(sanitized)
    width, height = size_of(root)
    return Decoded(path=target, content_type=content_type, width=width, height=height, frames=1)


def check_content(content: Content) -> int:
    """Check that it is well-formed and not too large; return the file size. Raises the errors of `prepare`."""
    if len(content) > MAX_BYTES:
        raise DecoderLimitError(f"the picture has {len(content):,} bytes; {MAX_BYTES:,} are allowed for SVG")
    _Counter().read(io.BytesIO(content))
    return len(content)


def size_of(root: dict[str, str]) -> tuple[int | None, int | None]:
    """Return width and height of the view box in pixels, or those of the root if it has no view box.

    Both are None if they are missing, in another unit, or larger than MAX_SIDE.
    """
    box = re.split(r"[\s,]+", root.get("viewBox", "").strip())
    texts = box[2:] if len(box) == 4 else [root.get("width", ""), root.get("height", "")]  # noqa: PLR2004 - x y w h
    sides = [math.ceil(float(side[1])) for side in map(LENGTH.fullmatch, texts) if side is not None]
    if len(sides) == 2 and all(0 < side <= MAX_SIDE for side in sides):  # noqa: PLR2004 - width and height
        return sides[0], sides[1]
    return None, None


class _Counter(XmlReader):
    """Checks that the root is `svg` and that there are at most MAX_ELEMENTS."""

    def __init__(self) -> None:
        super().__init__()
        self._elements = 0

    def open_element(self, name: str, attributes: dict[str, str]) -> None:  # noqa: ARG002 - of the base class
        self._elements += 1
        if self.depth == 1 and name not in ROOTS:
            raise FileCorruptedError("the picture's root is not an svg element")
        if self._elements > MAX_ELEMENTS:
            raise DecoderLimitError(f"the picture has more than {MAX_ELEMENTS:,} elements")
