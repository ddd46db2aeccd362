"""HEIC: decoded completely by libheif and converted like other images; files with several images are kept."""

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from handlers.codec.codec import Codec
from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.settings import MediaSettings
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity.pictures import chart, to_uint8
from tests.fidelity.rows_modern import heic, plain, turned_heic


def several() -> bytes:
    file = pillow_heif.HeifFile()
    for at in range(3):
        file.add_from_pillow(Image.fromarray(np.roll(to_uint8(chart()), 30 * at, 1)))
    buffer = io.BytesIO()
    file.save(buffer, quality=80)
    return buffer.getvalue()


def with_zeroed_pixels(content: bytes, start: int, end: int) -> bytes:
    """Return the file with zeros in its pixel data from `start` to `end` percent."""
    at = content.index(b"mdat") + 4
    size = len(content) - at
    first, last = at + size * start // 100, at + size * end // 100
    return content[:first] + bytes(last - first) + content[last:]


async def test_an_image_that_is_larger_as_jpeg_is_kept(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(heic(plain(), quality=35, chroma=420))
    prepared = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    assert (prepared.path, prepared.content_type) == (source, "image/heic")
    assert (prepared.width, prepared.height, prepared.frames) == (288, 240, 1)
    assert prepared.thumbhash


@pytest.mark.parametrize(
    ("requested", "expected"), [("webp", "image/webp"), ("avif", "image/avif"), ("keep", "image/heic")]
)
async def test_an_image_gets_the_requested_format(codec: Codec, tmp_path: Path, requested: str, expected: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(turned_heic(1))
    prepared = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile(format=ImageFormat(requested)))
    assert (prepared.content_type, prepared.width, prepared.height) == (expected, 240, 288)


async def test_a_file_with_several_images_is_kept(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(several())
    prepared = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    assert (prepared.path, prepared.frames, prepared.duration) == (source, 3, None)


@pytest.mark.parametrize("profile", [Profile(), Profile(format=ImageFormat.KEEP)], ids=["auto", "keep"])
@pytest.mark.parametrize("part", [20, 60, 99])
async def test_a_truncated_file_is_corrupted(codec: Codec, tmp_path: Path, part: int, profile: Profile) -> None:
    content = heic(plain(), quality=90)
    source = tmp_path / "source"
    source.write_bytes(content[: len(content) * part // 100])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "image/heic", profile)


@pytest.mark.parametrize("profile", [Profile(), Profile(format=ImageFormat.KEEP)], ids=["auto", "keep"])
@pytest.mark.parametrize(("start", "end"), [(0, 100), (50, 100), (50, 51), (99, 100)])
async def test_missing_pixels_are_corrupted(
    codec: Codec, tmp_path: Path, start: int, end: int, profile: Profile
) -> None:
    source = tmp_path / "source"
    source.write_bytes(with_zeroed_pixels(heic(plain(), quality=90), start, end))
    with pytest.raises(FileCorruptedError, match="decode"):
        await codec.prepare(source, tmp_path / "prepared", "image/heic", profile)


@pytest.mark.parametrize("tile", [64, 128])
async def test_a_tiled_image_is_converted_and_missing_pixels_are_corrupted(
    codec: Codec, tmp_path: Path, tile: int
) -> None:
    whole, source = heic(plain(), quality=97, tile_size=tile), tmp_path / "source"
    assert b"grid" in whole
    source.write_bytes(whole)
    prepared = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    assert (prepared.content_type, prepared.width, prepared.height) == ("image/jpeg", 288, 240)
    source.write_bytes(with_zeroed_pixels(whole, 60, 62))
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())


async def test_too_many_pixels_are_decoder_limit(tmp_path: Path) -> None:
    small = Codec(MediaSettings(codec_processes=1, max_image_pixels=288 * 240 - 1))
    source = tmp_path / "source"
    source.write_bytes(heic(plain(), quality=90))
    try:
        with pytest.raises(DecoderLimitError, match="MAX_IMAGE_PIXELS"):
            await small.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    finally:
        await small.aclose()
