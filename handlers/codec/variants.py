"""The variants that a codec process is asked to make, and the check of what it answers about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handlers.media import BY_CONTENT_TYPE, Prepared, PreparedVariant, VariantOptions
from handlers.media.describe import size_and_hashes
from schemas.codec import MadeVariant
from schemas.formats import ImageFormat
from schemas.jobs import Profile

WRITTEN_TYPES: Final = frozenset({"image/jpeg", "image/webp", "image/avif"})
WAVEFORM_TYPES: Final = frozenset({"image/png"})
MAX_VARIANT_BYTES: Final = 64 << 20
"""Maximum size of a variant's file: four bytes for each pixel of the largest variant."""


def variant_options(profile: Profile) -> tuple[VariantOptions, ...]:
    """Return the profile's variants of pictures and posters; format and quality default to those of the profile.

    A profile with the format `keep` has variants in the format `auto`.
    """
    return _options(profile, is_waveform=False)


def waveform_options(profile: Profile) -> tuple[VariantOptions, ...]:
    """Return the profile's variants of audio: its waveforms."""
    return _options(profile, is_waveform=True)


def _options(profile: Profile, *, is_waveform: bool) -> tuple[VariantOptions, ...]:
    picture_format = ImageFormat.AUTO if profile.format is ImageFormat.KEEP else profile.format
    return tuple(
        VariantOptions(
            variant.name,
            variant.width,
            variant.height,
            variant.format or picture_format,
            variant.quality or profile.quality,
            variant.animated,
            variant.waveform,
        )
        for variant in profile.variants
        if variant.waveform is is_waveform
    )


@dataclass(frozen=True, slots=True)
class ExpectedVariants:
    """The variants that were requested, and the path of the file of each, which exists if it was made."""

    wanted: Sequence[VariantOptions]
    paths: Sequence[Path]

    def parse(self, picture: Prepared | None, found: Sequence[MadeVariant]) -> tuple[PreparedVariant, ...]:
        """Validate the answer about the variants of a picture; compute sizes and hashes.

        `picture` is None for variants of video and audio: each must then have a file, since none is the picture itself.

        Raises:
            ValueError: a variant was not requested, is there twice, is larger than requested, or has an invalid file.
        """
        numbers = {variant.name: number for number, variant in enumerate(self.wanted)}
        if len({variant.name for variant in found}) < len(found) or any(each.name not in numbers for each in found):
            raise ValueError("a variant was not requested, or is there twice")
        return tuple(self._parse(picture, numbers[variant.name], variant) for variant in found)

    def _parse(self, picture: Prepared | None, number: int, made: MadeVariant) -> PreparedVariant:
        wanted = self.wanted[number]
        if made.width > wanted.width or made.height > (wanted.height or wanted.width):
            raise ValueError(f"the variant {wanted.name} is larger than requested")
        media = BY_CONTENT_TYPE.get(made.content_type)
        if made.file is None:
            shape = (made.content_type, made.width, made.height)
            if picture is None or shape != (picture.content_type, picture.width, picture.height):
                raise ValueError(f"the variant {wanted.name} is not the picture itself")
            path, content = picture.path, (picture.file_size, picture.sha256, picture.md5)
        else:
            path = self.paths[number]
            types = WAVEFORM_TYPES if wanted.waveform else WRITTEN_TYPES
            if made.file != number or made.content_type not in types:
                raise ValueError(f"the variant {wanted.name} has another file or type")
            content = _size_and_hashes(path, wanted.name)
        size, sha256, md5 = content
        return PreparedVariant(
            name=wanted.name,
            path=path,
            content_type=made.content_type,
            extension=media.extension if media else "",
            width=made.width,
            height=made.height,
            frames=made.frames,
            file_size=size,
            sha256=sha256,
            md5=md5,
            is_picture=made.file is None,
        )


def _size_and_hashes(path: Path, name: str) -> tuple[int, str, str]:
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_VARIANT_BYTES:
            raise ValueError(f"the variant {name} has {size:,} bytes")
        return size_and_hashes(path)
    except OSError as error:
        raise ValueError(f"the variant {name} cannot be read: {error.strerror}") from None
