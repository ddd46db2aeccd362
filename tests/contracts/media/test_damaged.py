"""Truncated files and flipped bits, for every type. Formats that cannot detect them are listed with the reason."""

from pathlib import Path
from random import Random

import pytest

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError, FileTypeNotSupportedError
from handlers.media import Prepared
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fuzz.strict_decoders import rejection_reason
from tests.media_samples import media_sample

pytestmark = pytest.mark.slow

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
UNDETECTED_CUTS = {
    "obj": "text has no end mark: a file cut between lines or in a number is a smaller model",
    "ply in text": "the last number can lose a digit, or the last line its line break",
    "stl in text": "the last line can lose its line break",
    "fbx": "the footer contains no data",
    "fbx of 2019": "the same",
    "fbx in text": "the last line can lose its line break",
    "tga": "a footer without its last byte is none, and TGA 1.0 has none",
    "tga, packed": "the same",
    "splat": "a file cut between splats is a smaller model",
    "mtl": "text has no end mark",
    "vtt": "the same",
    "srt": "the same",
    "csv": "the same",
    "text": "the same",
}
WITHOUT_END_MARK = {"gif", "gif, animated"}
"""Samples that are shown without their last byte, which follows the last frame."""
WITH_CHECKSUMS = {
    "png": "every chunk has a checksum",
    "png, interlaced": "the same",
    "png, animated": "the same",
    "ogg of opus": "every page has a checksum",
    "ogg of vorbis": "the same",
}
FLIPS = 12
KEEP = Profile(format=ImageFormat.KEEP)


async def prepared(codec: Codec, folder: Path, content: bytes, profile: Profile) -> Prepared | None:
    """Detect and prepare a file as the pipeline does; None if it is refused."""
    media = detect(content).media
    if media is None:
        return None
    source = folder / "source"
    source.write_bytes(content)
    try:
        return await codec.prepare(source, folder / "out", media.content_type, profile)
    except (FileCorruptedError, FileTypeNotSupportedError, DecoderLimitError):
        return None


@pytest.mark.parametrize("profile", [Profile(), KEEP], ids=["auto", "keep"])
async def test_truncated_file_is_refused(codec: Codec, tmp_path: Path, name: str, profile: Profile) -> None:
    content = media_sample(name).content
    missing = 2 if name in WITHOUT_END_MARK else 1
    ends = [*(int(len(content) * share) for share in SHARES), len(content) - missing]
    taken = [end for end in ends if await prepared(codec, tmp_path, content[:end], profile)]
    assert bool(taken) == (name in UNDETECTED_CUTS), taken


async def test_flipped_bit_is_refused_or_harmless(codec: Codec, tmp_path: Path, name: str) -> None:
    content, random = media_sample(name).content, Random(name)  # noqa: S311 - repeatable damage
    for _ in range(FLIPS):
        damaged = bytearray(content)
        at = random.randrange(len(damaged))
        damaged[at] ^= 1 << random.randrange(8)
        found = await prepared(codec, tmp_path, bytes(damaged), KEEP)
        if found is not None:
            assert name not in WITH_CHECKSUMS, f"byte {at}"
            assert rejection_reason(found.path, found.content_type) is None, f"byte {at}"


async def test_mp3_cut_between_frames_is_refused_only_with_a_frame_count(codec: Codec, tmp_path: Path) -> None:
    counted, plain = media_sample("mp3").content, media_sample("mp3 without counts").content
    frame = 192  # 64 kbit/s at 48 kHz
    assert await prepared(codec, tmp_path, counted[: -10 * frame], Profile()) is None
    assert await prepared(codec, tmp_path, plain[: -10 * frame], Profile()) is not None
