"""Video and sound in every container Outlast stores, made by FFmpeg here, whole and damaged."""

import io
import math
import struct
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from handlers.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError, FileTypeNotSupportedError
from handlers.settings import MediaSettings
from schemas.jobs import Profile

RATE = 48_000
VIDEO = {
    "mp4": ("mp4", "libx264", {}, "video/mp4"),
    "mp4 for the web": ("mp4", "libx264", {"movflags": "+faststart"}, "video/mp4"),
    "mp4 in fragments": ("mp4", "libx264", {"movflags": "+frag_keyframe+empty_moov"}, "video/mp4"),
    "mpeg4 in mp4": ("mp4", "mpeg4", {}, "video/mp4"),
    "mov": ("mov", "libx264", {}, "video/quicktime"),
    "webm": ("webm", "libvpx", {}, "video/webm"),
    "mkv": ("matroska", "libx264", {}, "video/x-matroska"),
}
SOUND = {
    "mp3": ("mp3", "libmp3lame", "s16p", "audio/mpeg"),
    "wav": ("wav", "pcm_s16le", "s16", "audio/wav"),
    "flac": ("flac", "flac", "s16", "audio/flac"),
    "opus": ("ogg", "libopus", "s16", "audio/ogg"),
    "m4a": ("ipod", "aac", "fltp", "audio/mp4"),
    "aac": ("adts", "aac", "fltp", "audio/aac"),
}


def video(
    path: Path, container_format: str, codec: str, options: dict[str, str], *, side: int = 64, frames: int = 50
) -> bytes:
    with av.open(str(path), "w", format=container_format, options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = side, side // 2, "yuv420p", 10
        for at in range(frames):
            pixels = bytes((at * 3 + place * 5) % 256 for place in range(side * (side // 2) * 4))
            frame = av.VideoFrame.from_bytes(pixels, side, side // 2, format="rgba").reformat(format="yuv420p")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def sound(container_format: str, codec: str, sample_format: str, *, seconds: int = 2) -> bytes:
    output = io.BytesIO()
    wave = [math.sin(at / 20) / 2 for at in range(RATE * seconds)]
    layout, scale = ("<f", 1.0) if sample_format == "fltp" else ("<h", 32_000)
    with av.open(output, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono", format=sample_format)
        for at in range(0, len(wave), 960):
            values = wave[at : at + 960]
            frame = av.AudioFrame(format=sample_format, layout="mono", samples=len(values))
            packed = (struct.pack(layout, value * scale if scale == 1.0 else round(value * scale)) for value in values)
            frame.planes[0].update(b"".join(packed).ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=1, max_image_pixels=100_000))
    yield codec
    await codec.aclose()


@pytest.mark.parametrize("name", VIDEO)
async def test_video(codec: Codec, tmp_path: Path, name: str) -> None:
    container_format, encoder, options, content_type = VIDEO[name]
    source = tmp_path / "source"
    content = video(source, container_format, encoder, options)
    assert detect(content[:4096]).sniffed == detect(content).sniffed == content_type
    made = await codec.prepare(source, tmp_path / "out", content_type, Profile())
    assert (made.path, made.content_type, made.width, made.height) == (source, content_type, 64, 32)
    assert made.duration == pytest.approx(2, abs=0.1)
    assert made.frames == 50
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "out", content_type, Profile())


@pytest.mark.parametrize("name", SOUND)
async def test_sound(codec: Codec, tmp_path: Path, name: str) -> None:
    container_format, encoder, sample_format, content_type = SOUND[name]
    content = sound(container_format, encoder, sample_format)
    source = tmp_path / "source"
    source.write_bytes(content)
    assert detect(content[:4096]).sniffed == detect(content).sniffed == content_type
    made = await codec.prepare(source, tmp_path / "out", content_type, Profile())
    assert (made.path, made.content_type, made.width) == (source, content_type, None)
    assert made.duration == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", ["mp3", "wav", "flac", "m4a"])
async def test_sound_that_declares_more_than_it_has(codec: Codec, tmp_path: Path, name: str) -> None:
    container_format, encoder, sample_format, content_type = SOUND[name]
    content = sound(container_format, encoder, sample_format)
    source = tmp_path / "source"
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "out", content_type, Profile())


async def test_an_mp4_of_sound_alone_is_sound(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(sound("mp4", "aac", "fltp"))
    assert detect(source.read_bytes()).sniffed == "video/mp4"
    made = await codec.prepare(source, tmp_path / "out", "video/mp4", Profile())
    assert (made.content_type, made.extension) == ("audio/mp4", "m4a")


async def test_a_webm_of_sound_alone_is_not_stored(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(sound("webm", "libopus", "s16"))
    with pytest.raises(FileTypeNotSupportedError):
        await codec.prepare(source, tmp_path / "out", "video/webm", Profile())


async def test_frames_of_too_many_pixels(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "source"
    video(source, "mp4", "mpeg4", {}, side=480, frames=2)
    with pytest.raises(DecoderLimitError):
        await codec.prepare(source, tmp_path / "out", "video/mp4", Profile())


async def test_a_playlist_in_disguise_opens_nothing(codec: Codec, tmp_path: Path) -> None:
    video(tmp_path / "secret.ts", "mpegts", "libx264", {})
    source = tmp_path / "source"
    source.write_text(f"#EXTM3U\n#EXTINF:2,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n")
    assert detect(source.read_bytes()).media is None
    for content_type in ("video/webm", "audio/mpeg", "video/x-matroska"):
        with pytest.raises(FileCorruptedError):
            await codec.prepare(source, tmp_path / "out", content_type, Profile())


@pytest.mark.parametrize(("cut", "whole"), [(0, True), (40, False)])
async def test_heic_is_checked_by_its_boxes(codec: Codec, tmp_path: Path, cut: int, *, whole: bool) -> None:
    boxes = [(b"ftyp", b"heic\0\0\0\0mif1heic"), (b"meta", bytes(60)), (b"mdat", bytes(100))]
    content = b"".join((8 + len(body)).to_bytes(4, "big") + kind + body for kind, body in boxes)
    source = tmp_path / "source"
    source.write_bytes(content[: len(content) - cut])
    if whole:
        assert (await codec.prepare(source, tmp_path / "out", "image/heic", Profile())).path == source
        return
    with pytest.raises(FileCorruptedError, match="mdat"):
        await codec.prepare(source, tmp_path / "out", "image/heic", Profile())
