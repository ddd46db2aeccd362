"""Variants: smaller versions of a picture, such as thumbnails, as the setting VARIANTS describes them.

The variants of a video are made from its poster. The variant of audio is a picture of its waveform.
"""

import re
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from schemas.base import Frozen
from schemas.formats import ImageFormat

MAX_VARIANTS: Final = 10
MAX_VARIANT_SIDE: Final = 4096
"""Longest side of a variant in pixels."""
SYNTAX: Final = (
    "name:side[:format[:quality]][:animated], for example thumb:256 or card:400x300:webp:80, or name:waveform for audio"
)
ANIMATED: Final = "animated"
WAVEFORM: Final = "waveform"
WAVEFORM_SIZE: Final = (1024, 256)
"""Width and height of a waveform in pixels."""
SIZE: Final = re.compile(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?")
FORMATS: Final = (ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.AVIF)
FEWEST_PARTS, MOST_PARTS = 2, 4

VariantName = Annotated[str, Field(pattern=r"\A[a-z][a-z0-9_]{0,29}\z")]


class Variant(Frozen):
    """A smaller version of a picture. It is never larger than the picture.

    Without a height the variant fits into a square of `width`. With a height it fills `width` x `height`, and the least
    interesting part is cut off. Format and quality default to those of the picture. `animated`: the variant has all
    frames, not only the first one. `waveform`: the variant is made of audio only, as a PNG of WAVEFORM_SIZE.
    """

    name: VariantName
    width: int
    height: int | None = None
    format: ImageFormat | None = None
    quality: int | None = None
    animated: bool = False
    waveform: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse one variant, such as `thumb:256`. Raises a ValueError that names the problem and the remedy."""
        name, *parts = text.split(":")
        animated = len(parts) > 1 and parts[-1] == ANIMATED
        size, *others = parts[:-1] if animated else parts or [""]
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,29}", name):
            raise _problem(text, "the name must be 1 to 30 of a-z, 0-9 and _, and begin with a letter")
        if parts == [WAVEFORM]:
            return cls(name=name, width=WAVEFORM_SIZE[0], height=WAVEFORM_SIZE[1], waveform=True)
        found = SIZE.fullmatch(size)
        if found is None or max(int(side) for side in found.groups("1")) > MAX_VARIANT_SIDE:
            raise _problem(text, f"the size must be 1 to {MAX_VARIANT_SIDE} pixels, as side or as WIDTHxHEIGHT")
        if len(others) > MOST_PARTS - FEWEST_PARTS:
            raise _problem(text, "it has too many parts")
        if others and others[0] not in FORMATS:
            raise _problem(text, f"the format must be one of {', '.join(FORMATS)}")
        if others[1:] and not re.fullmatch(r"[1-9]\d?|100", others[1]):
            raise _problem(text, "the quality must be 1 to 100")
        return cls(
            name=name,
            width=int(found[1]),
            height=int(found[2]) if found[2] else None,
            format=ImageFormat(others[0]) if others else None,
            quality=int(others[1]) if others[1:] else None,
            animated=animated,
        )

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        if self.waveform:
            return f"{self.name}:{WAVEFORM}"
        size = str(self.width) if self.height is None else f"{self.width}x{self.height}"
        parts = [self.name, size, self.format, self.quality, ANIMATED if self.animated else None]
        return ":".join(str(part) for part in parts if part is not None)


def parse_variants(value: Any) -> Any:  # noqa: ANN401 - what pydantic passes
    """Turn `thumb:256, preview:1024:webp` into variants; return variants unchanged.

    Raises:
        ValueError: names the variant, the problem and the remedy.
    """
    if isinstance(value, tuple) and all(isinstance(variant, Variant) for variant in value):
        return value
    if not isinstance(value, str):
        raise ValueError(f"variants are a text; write {SYNTAX}")  # noqa: TRY004 - pydantic reports a ValueError
    words = value.replace(",", " ").split()
    if len(words) > MAX_VARIANTS:
        raise ValueError(f"{len(words)} variants are too many; name at most {MAX_VARIANTS}")
    variants = tuple(Variant.parse(word) for word in words)
    names = [variant.name for variant in variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is the name of two variants; each needs a name of its own")
    return variants


def variants_text(variants: tuple[Variant, ...]) -> str:
    """Return the shortest text from which `parse_variants` makes these variants."""
    return ",".join(map(str, variants))


Variants = Annotated[
    tuple[Variant, ...],
    BeforeValidator(parse_variants),
    PlainSerializer(variants_text, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["thumb:256,card:400x300:webp:80"]}),
]
"""A field of variants. In JSON and in settings it is text, as `parse_variants` reads it."""


def _problem(text: str, problem: str) -> ValueError:
    return ValueError(f"{text[:100]!r}: {problem}; write {SYNTAX}")
