"""Video and audio: cases that the contract tests of all types (tests/contracts/media) do not have."""

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import av
import pytest

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError, FileTypeNotSupportedError
from handlers.media.av import decode
from handlers.settings import MediaSettings
from schemas.jobs import Profile
from tests.media_samples import media_sample, sound, video


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=1, max_image_pixels=100_000))
    yield codec
    await codec.aclose()


async def prepare(codec: Codec, folder: Path, content: bytes, content_type: str):
    (folder / "source").write_bytes(content)
    return await codec.prepare(folder / "source", folder / "out", content_type, Profile())


@pytest.mark.parametrize("name", ["mp4", "mov", "webm", "mkv"])
async def test_video_has_its_size_duration_and_frame_count(codec: Codec, tmp_path: Path, name: str) -> None:
    found = await prepare(codec, tmp_path, *vars_of(name))
    assert (found.width, found.height, found.frames) == (64, 32, 50)
    assert found.duration == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg of opus", "ogg of vorbis", "m4a", "aac"])
async def test_audio_has_its_duration_and_no_size(codec: Codec, tmp_path: Path, name: str) -> None:
    found = await prepare(codec, tmp_path, *vars_of(name))
    assert (found.width, found.height) == (None, None)
    assert found.duration == pytest.approx(1, abs=0.05)


def vars_of(name: str) -> tuple[bytes, str]:
    return media_sample(name).content, media_sample(name).content_type


async def test_damage_between_the_key_frames_is_found(codec: Codec, tmp_path: Path) -> None:
    content, content_type = vars_of("mp4")
    with av.open(io.BytesIO(content)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size and not packet.is_keyframe]
    at, size = max(places[5:-5], key=lambda place: place[1])
    damaged = content[: at + 5] + b"\xff" * (size - 5) + content[at + size :]
    with pytest.raises(FileCorruptedError):
        await prepare(codec, tmp_path, damaged, content_type)


def test_only_key_frames_are_decoded_after_the_pixel_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_DECODED_PIXELS", 64 * 32 * 15)
    (tmp_path / "film").write_bytes(media_sample("mp4").content)
    limits = Codec(MediaSettings())._limits
    with decode.open_container(tmp_path / "film", "video/mp4", limits) as container:
        track = decode.decode_all(container, container.streams.video[0])
    assert track.packets == 50
    assert 15 < track.frames < 30


async def test_mp4_with_only_audio_is_stored_as_m4a(codec: Codec, tmp_path: Path) -> None:
    content = sound("mp4", "aac", "fltp")
    assert detect(content).mime_type == "video/mp4"
    found = await prepare(codec, tmp_path, content, "video/mp4")
    assert (found.content_type, found.extension) == ("audio/mp4", "m4a")


async def test_avi_with_only_audio_is_refused(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(FileTypeNotSupportedError):
        await prepare(codec, tmp_path, sound("avi", "pcm_s16le", "s16"), "video/x-msvideo")


async def test_video_with_too_many_pixels_is_decoder_limit(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(DecoderLimitError):
        await prepare(codec, tmp_path, video("mp4", "mpeg4", side=480, frames=2), "video/mp4")


async def test_playlist_under_a_media_type_is_corrupted(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(video("mpegts", "libx264"))
    playlist = f"#EXTM3U\n#EXTINF:2,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n".encode()
    assert detect(playlist).mime_type == "text/plain"
    for content_type in ("video/webm", "audio/mpeg", "video/x-matroska"):
        with pytest.raises(FileCorruptedError):
            await prepare(codec, tmp_path, playlist, content_type)


def test_making_a_sample_leaves_the_scheduling_as_it_was() -> None:
    before = os.sched_getscheduler(0)
    assert video("mp4", "libsvtav1", frames=2)
    assert os.sched_getscheduler(0) == before
