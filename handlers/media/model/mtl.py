"""MTL, the materials of an OBJ model: lines of text with a keyword and its values.

The format: http://paulbourke.net/dataformats/mtl/
"""

import re
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

COLOURS: Final = frozenset({b"Ka", b"Kd", b"Ks", b"Ke", b"Tf"})
NUMBERS: Final = frozenset({b"Ns", b"Ni", b"d", b"Tr", b"illum", b"sharpness", b"Pr", b"Pm", b"Ps", b"Pc", b"Pcr"})
KEYWORD: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,31}")
"""Renderers have keywords of their own, so every word of this form is allowed."""
NOT_VALUES: Final = frozenset({b"spectral", b"xyz", b"-halo"})
"""Words that may follow a keyword instead of a number, in other forms of a colour or of the opacity."""


def check_content(content: Content) -> int:
    """Check every line; return the file size.

    Raises:
        FileCorruptedError: the file has no material, or a line is before the first material, or is not a keyword with
            its values.
    """
    materials = 0
    for number, line in enumerate(content[:].removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        is_material = words[0] == b"newmtl"
        materials += is_material
        if b"\0" in line or not KEYWORD.fullmatch(words[0]) or not (materials or is_material):
            raise FileCorruptedError(f"line {number:,} of the materials begins with {words[0][:20]!r}")
        _check_values(words, number)
    if not materials:
        raise FileCorruptedError("the file has no material")
    return len(content)


def _check_values(words: list[bytes], number: int) -> None:
    """Check that only numbers follow a keyword of COLOURS or NUMBERS, unless one of NOT_VALUES does."""
    is_number = words[0] in COLOURS or words[0] in NUMBERS
    if not is_number or (words[1:] and words[1] in NOT_VALUES):
        return
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        values = []
    if not values:
        raise FileCorruptedError(f"line {number:,} of the materials has no number after {words[0].decode('ascii')}")
