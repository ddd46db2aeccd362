"""Animations with more pixels in all frames together than one image may have: decoded frame by frame, and kept."""

import io
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.samples.pictures import photo
from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media import Prepared
from handlers.media.image.limits import MAX_ANIMATION_FACTOR
from handlers.settings import MediaSettings
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.hostile.crafted_files import png_chunk, webp

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FRAMES = 1280, 720, 1440
SIDE = 80


def gif(width: int, height: int, frames: int) -> bytes:
    """Return a photograph and then changes of one pixel, each shown for 40 ms."""
    first: bytes = photo(width).crop(0, 0, width, height).gifsave_buffer(effort=1)
    control = b"\x21\xf9\x04\x04\x04\0\0\0"
    change = control + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return first.removesuffix(b";") + change * (frames - 1) + b";"


def apng(width: int, height: int, frames: int) -> bytes:
    """Return a black picture and then changes of one pixel, each shown for 40 ms."""

    def control(number: int, width: int, height: int) -> bytes:
        return png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 40, 1000, 0, 0))

    parts = [
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        png_chunk(b"acTL", struct.pack(">II", frames, 0)),
        control(0, width, height),
        png_chunk(b"IDAT", zlib.compress(bytes(height * (1 + 3 * width)))),
    ]
    for at in range(1, frames):
        pixels = struct.pack(">I", 2 * at) + zlib.compress(b"\0\xff\0" + bytes([at % 256]))
        parts += [control(2 * at - 1, 1, 1), png_chunk(b"fdAT", pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, png_chunk(b"IEND", b"")])


def saved(kind: str, frames: int) -> bytes:
    """Return an animation of photographs, as Pillow writes it."""
    pictures = [Image.frombytes("RGB", (SIDE, SIDE), bytes(photo(SIDE, at).write_to_memory())) for at in range(frames)]
    output = io.BytesIO()
    pictures[0].save(output, kind, save_all=True, append_images=pictures[1:], duration=40)
    return output.getvalue()


LONG: dict[str, tuple[Callable[[], bytes], float]] = {
    "image/gif": (lambda: gif(WIDTH, HEIGHT, FRAMES), FRAMES * 0.04),
    "image/webp": (lambda: webp(WIDTH, HEIGHT, FRAMES), FRAMES * 0.1),
    "image/png": (lambda: apng(WIDTH, HEIGHT, FRAMES), FRAMES * 0.04),
}
KINDS = {"GIF": "image/gif", "WEBP": "image/webp", "PNG": "image/png", "AVIF": "image/avif"}


@pytest.fixture(scope="module")
async def small() -> AsyncIterator[Codec]:
    """A codec that allows four frames of SIDE in one image."""
    codec = Codec(MediaSettings(codec_processes=1, max_image_pixels=4 * SIDE * SIDE))
    yield codec
    await codec.aclose()


async def prepare(codec: Codec, folder: Path, content: bytes, content_type: str, profile: Profile) -> Prepared:
    source = folder / "source"
    source.write_bytes(content)
    assert detect(content[:4096]).mime_type == content_type
    return await codec.prepare(source, folder / "out", content_type, profile)


@pytest.mark.parametrize("content_type", LONG)
async def test_a_minute_of_720p_is_stored_by_a_codec_of_default_limits(tmp_path: Path, content_type: str) -> None:
    make, first_seconds = LONG[content_type]
    codec = Codec(MediaSettings(codec_processes=1))
    try:
        found = await prepare(codec, tmp_path, make(), content_type, Profile())
    finally:
        await codec.aclose()
    assert (found.width, found.height, found.frames) == (WIDTH, HEIGHT, FRAMES)
    assert found.duration == pytest.approx(first_seconds, abs=0.1)
    assert found.thumbhash
    assert (found.content_type, found.path) == (content_type, tmp_path / "source")


@pytest.mark.parametrize("profile", [Profile(), Profile(format=ImageFormat.KEEP)], ids=["auto", "keep"])
@pytest.mark.parametrize("kind", KINDS)
async def test_frames_of_more_pixels_than_one_image_may_have_are_kept(
    small: Codec, tmp_path: Path, kind: str, profile: Profile
) -> None:
    content = saved(kind, 10)
    found = await prepare(small, tmp_path, content, KINDS[kind], profile)
    assert found.path.read_bytes() == content
    assert (found.width, found.height, found.frames, found.duration) == (SIDE, SIDE, 10, 0.4)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_animation_that_is_truncated_is_corrupted(small: Codec, tmp_path: Path, kind: str) -> None:
    content = saved(kind, 10)
    with pytest.raises(FileCorruptedError):
        await prepare(small, tmp_path, content[: len(content) * 3 // 4], KINDS[kind], Profile())


async def test_a_long_animation_is_refused_for_pixels_that_are_missing_in_one_frame(
    small: Codec, tmp_path: Path
) -> None:
    whole = gif(SIDE, SIDE, 30)
    assert (await prepare(small, tmp_path, whole, "image/gif", Profile())).frames == 30
    damaged = whole.replace(b"\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00", b"\x09\x00\x09\x00\x00\x02\x02\x44\x01\x00")
    with pytest.raises(FileCorruptedError):
        await prepare(small, tmp_path, damaged, "image/gif", Profile())


@pytest.mark.parametrize(
    "content",
    [gif(SIDE, SIDE, 4 * MAX_ANIMATION_FACTOR + 1), webp(SIDE, SIDE, 4 * MAX_ANIMATION_FACTOR + 1)],
    ids=["gif", "webp"],
)
async def test_an_animation_that_takes_too_long_is_decoder_limit(small: Codec, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DecoderLimitError, match="MAX_IMAGE_PIXELS"):
        await prepare(small, tmp_path, content, detect(content).mime_type, Profile())


async def test_a_frame_of_too_many_pixels_is_decoder_limit(small: Codec, tmp_path: Path) -> None:
    with pytest.raises(DecoderLimitError, match="MAX_IMAGE_PIXELS"):
        await prepare(small, tmp_path, gif(2 * SIDE + 1, 2 * SIDE, 2), "image/gif", Profile())
