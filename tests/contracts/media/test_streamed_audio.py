"""Sound that was streamed or joined: every player plays these files to their end, so they are stored."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import soundfile

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import FileCorruptedError
from handlers.media import Prepared
from schemas.jobs import Profile
from tests.fuzz.strict_decoders import rejection_reason
from tests.media_samples import media_sample, sound, video

pytestmark = pytest.mark.slow

RATE = 48_000
KNOWN_SECONDS = 2.0


def wav(seconds: float = KNOWN_SECONDS) -> bytes:
    """Return a WAV of the shortest header: the lengths are at 4 and 40."""
    buffer = io.BytesIO()
    soundfile.write(buffer, [at % 200 / 400 for at in range(int(RATE * seconds))], RATE, format="WAV", subtype="PCM_16")
    content = buffer.getvalue()
    assert content[36:40] == b"data"
    return content


def with_lengths(outer: int, data: int, *, content: bytes | None = None) -> bytes:
    content = content or wav()
    return content[:4] + struct.pack("<I", outer) + content[8:40] + struct.pack("<I", data) + content[44:]


def id3(size: int) -> bytes:
    """Return an ID3 tag with a picture, of `size` bytes after its header."""
    body = (b"APIC" + struct.pack(">I", size - 10) + b"\0\0" + b"\xff\xd8" * size)[:size]
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def variable_mp3() -> bytes:
    """Return an MP3 without a Xing header whose first half has a sixth of the bit rate of the other."""
    low, high = (sound("mp3", "libmp3lame", "s16p", seconds=5, bit_rate=rate) for rate in (32_000, 192_000))
    return without_xing(low) + without_xing(high)


def without_xing(content: bytes) -> bytes:
    with av.open(io.BytesIO(content)) as container:
        first = next(iter(container.demux()))
    assert first.pos is not None
    return content[first.pos :]


def piped_flac() -> bytes:
    content = bytearray(media_sample("flac").content)
    content[21] &= 0xF0  # the number of samples, in 36 bits, and the MD5 after it
    content[22:42] = bytes(20)
    return bytes(content)


def live_webm() -> bytes:
    return video("webm", "libvpx", {"live": "1"})


TRUE_DATA = len(wav()) - 44
STREAMED_WAV = {
    "zeros": (0, 0),
    "an empty sound": (36, 0),
    "the largest signed number": (0x7FFFFFFF, 0x7FFFFFFF - 36),
    "the largest number": (0xFFFFFFFF, 0xFFFFFFFF),
    "two thousand million": (2_000_000_000, 2_000_000_000 - 36),
    "the outer length counts its own header": (TRUE_DATA + 44, TRUE_DATA),
    "the outer length is too short": (36, TRUE_DATA),
    "only the sound's length is unknown": (TRUE_DATA + 36, 0xFFFFFFFF),
    "only the outer length is unknown": (0xFFFFFFFF, TRUE_DATA),
}
ACCEPTED: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "flac, piped": ("audio/flac", piped_flac, 1.0),
    "webm, live": ("video/webm", live_webm, 2.0),
    "mp3 of two bit rates": ("audio/mpeg", variable_mp3, 10.1),
    "aac of silence and noise": ("audio/aac", lambda: sound("adts", "aac", "fltp", seconds=8, quiet=4), 8.0),
    "mp3, joined": ("audio/mpeg", lambda: media_sample("mp3").content * 3, 3.1),
    "mp3, joined without counts": (
        "audio/mpeg",
        lambda: id3(200).join([media_sample("mp3 without counts").content] * 3),
        3.1,
    ),
    "mp3, joined with zeros between": (
        "audio/mpeg",
        lambda: (bytes(50) + id3(200)).join([media_sample("mp3").content] * 2),
        2.05,
    ),
    "mp3 behind zeros": ("audio/mpeg", lambda: bytes(700) + media_sample("mp3 without counts").content, 1.0),
    "mp3 behind a tag and zeros": (
        "audio/mpeg",
        lambda: id3(300) + bytes(99) + media_sample("mp3 without counts").content,
        1.0,
    ),
    "mp3 behind a large tag": ("audio/mpeg", lambda: id3(90_000) + media_sample("mp3 without counts").content, 1.0),
    "flac behind a large tag": ("audio/flac", lambda: id3(90_000) + media_sample("flac").content, 1.0),
    "aac behind a large tag": ("audio/aac", lambda: id3(90_000) + media_sample("aac").content, 1.0),
    "aac, joined": ("audio/aac", lambda: media_sample("aac").content + id3(100) + media_sample("aac").content, 2.05),
}

NOT_READ_BY_ANOTHER_DECODER = {
    "flac, piped": "libsndfile seeks to the end, which has no known place",
    "mp3 behind a tag and zeros": "libsndfile does not recognize it; mpg123, FFmpeg and browsers play it",
}


async def prepare(codec: Codec, folder: Path, content: bytes) -> Prepared:
    """Detect from the first bytes and prepare, as the pipeline does."""
    source = folder / "source"
    source.write_bytes(content)
    media = detect(content[:65_536]).media
    assert media is not None
    return await codec.prepare(source, folder / "out", media.content_type, Profile())


@pytest.mark.parametrize("lengths", STREAMED_WAV)
async def test_streamed_wav_is_stored_with_its_true_lengths(codec: Codec, tmp_path: Path, lengths: str) -> None:
    found = await prepare(codec, tmp_path, with_lengths(*STREAMED_WAV[lengths]))
    assert found.duration == KNOWN_SECONDS
    assert found.path.read_bytes() == wav()
    assert (tmp_path / "source").read_bytes() == with_lengths(*STREAMED_WAV[lengths])


async def test_streamed_wav_that_ends_within_a_sample_loses_that_sample(codec: Codec, tmp_path: Path) -> None:
    found = await prepare(codec, tmp_path, with_lengths(0, 0)[:-1])
    assert found.path.read_bytes() == with_lengths(TRUE_DATA + 34, TRUE_DATA - 2)[:-2]


async def test_valid_wav_is_stored_unchanged(codec: Codec, tmp_path: Path) -> None:
    found = await prepare(codec, tmp_path, wav())
    assert found.path == tmp_path / "source"


@pytest.mark.parametrize("lengths", [(TRUE_DATA + 36, TRUE_DATA), (0, TRUE_DATA), (0xFFFFFFFF, TRUE_DATA)])
@pytest.mark.parametrize("missing", [1, 8, 9, 1000])
async def test_truncated_wav_of_a_plausible_length_is_refused(
    codec: Codec, tmp_path: Path, lengths: tuple[int, int], missing: int
) -> None:
    with pytest.raises(FileCorruptedError):
        await prepare(codec, tmp_path, with_lengths(*lengths)[:-missing])


@pytest.mark.parametrize("case", ACCEPTED)
async def test_streamed_or_joined_sound_is_stored_with_its_decoded_duration(
    codec: Codec, tmp_path: Path, case: str
) -> None:
    content_type, make, seconds = ACCEPTED[case]
    content = make()
    found = await prepare(codec, tmp_path, content)
    assert (found.content_type, found.path.read_bytes()) == (content_type, content)
    assert found.duration == pytest.approx(seconds, abs=0.06)
    assert (rejection_reason(found.path, content_type) is None) == (case not in NOT_READ_BY_ANOTHER_DECODER)


@pytest.mark.parametrize("case", [case for case in ACCEPTED if case.startswith(("mp3", "aac"))])
async def test_truncated_frame_at_the_end_is_refused(codec: Codec, tmp_path: Path, case: str) -> None:
    with pytest.raises(FileCorruptedError, match="lacks"):
        await prepare(codec, tmp_path, ACCEPTED[case][1]()[:-5])
