"""HEIC: decoded whole by libheif, converted like other images; what tells more than one picture is kept."""

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
from tests.fidelity.pictures import bytes_of, chart
from tests.fidelity.rows_modern import heic, plain, turned_heic


def several() -> bytes:
    file = pillow_heif.HeifFile()
    for at in range(3):
        file.add_from_pillow(Image.fromarray(np.roll(bytes_of(chart()), 30 * at, 1)))
    buffer = io.BytesIO()
    file.save(buffer, quality=80)
    return buffer.getvalue()


def with_pixels(content: bytes, start: int, end: int) -> bytes:
    """The file with zeros in its pixels from one place to another, in hundredths."""
    at = content.index(b"mdat") + 4
    size = len(content) - at
    first, last = at + size * start // 100, at + size * end // 100
    return content[:first] + bytes(last - first) + content[last:]


async def test_what_is_larger_as_jpeg_is_kept(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(heic(plain(), quality=35, chroma=420))
    made = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    assert (made.path, made.content_type) == (source, "image/heic")
    assert (made.width, made.height, made.frames) == (288, 240, 1)
    assert made.thumbhash


@pytest.mark.parametrize(("asked", "becomes"), [("webp", "image/webp"), ("avif", "image/avif"), ("keep", "image/heic")])
async def test_becomes_what_is_asked(codec: Codec, tmp_path: Path, asked: str, becomes: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(turned_heic(1))
    made = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile(format=ImageFormat(asked)))
    assert (made.content_type, made.width, made.height) == (becomes, 240, 288)


async def test_several_pictures_are_decoded_and_kept(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(several())
    made = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    assert (made.path, made.frames, made.duration) == (source, 3, None)


@pytest.mark.parametrize("profile", [Profile(), Profile(format=ImageFormat.KEEP)], ids=["auto", "keep"])
@pytest.mark.parametrize("part", [20, 60, 99])
async def test_cut_short_is_refused(codec: Codec, tmp_path: Path, part: int, profile: Profile) -> None:
    content = heic(plain(), quality=90)
    source = tmp_path / "source"
    source.write_bytes(content[: len(content) * part // 100])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "image/heic", profile)


@pytest.mark.parametrize("profile", [Profile(), Profile(format=ImageFormat.KEEP)], ids=["auto", "keep"])
@pytest.mark.parametrize(("start", "end"), [(0, 100), (50, 100), (50, 51), (99, 100)])
async def test_pixels_that_are_gone_are_refused(
    codec: Codec, tmp_path: Path, start: int, end: int, profile: Profile
) -> None:
    source = tmp_path / "source"
    source.write_bytes(with_pixels(heic(plain(), quality=90), start, end))
    with pytest.raises(FileCorruptedError, match="decode"):
        await codec.prepare(source, tmp_path / "prepared", "image/heic", profile)


@pytest.mark.parametrize("tile", [64, 128])
async def test_a_picture_of_tiles_as_phones_write_it(codec: Codec, tmp_path: Path, tile: int) -> None:
    whole, source = heic(plain(), quality=97, tile_size=tile), tmp_path / "source"
    assert b"grid" in whole
    source.write_bytes(whole)
    made = await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    assert (made.content_type, made.width, made.height) == ("image/jpeg", 288, 240)
    source.write_bytes(with_pixels(whole, 60, 62))
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "image/heic", Profile())


async def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    small = Codec(MediaSettings(codec_processes=1, max_image_pixels=288 * 240 - 1))
    source = tmp_path / "source"
    source.write_bytes(heic(plain(), quality=90))
    try:
        with pytest.raises(DecoderLimitError, match="MAX_IMAGE_PIXELS"):
            await small.prepare(source, tmp_path / "prepared", "image/heic", Profile())
    finally:
        await small.aclose()
