"""Valid files of every type are detected, prepared, and refused under another type."""

import hashlib
from pathlib import Path

import pytest

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import FileProcessingError
from handlers.media import BY_CONTENT_TYPE, MEDIA_TYPES, Kind
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fuzz.strict_decoders import rejection_reason
from tests.media_samples import MAKERS, detected_types, media_sample

pytestmark = pytest.mark.slow

RELATED = {
    ("video/mp4", "audio/mp4"),  # the same boxes; they differ only in the video track
}
SHOWN = {Kind.IMAGE, Kind.VIDEO}
WITHOUT_PLACEHOLDER = {"image/svg+xml", "image/x-exr"}
"""Images whose pixels are not decoded."""


def test_type_is_detected_from_the_head_and_independent_of_the_name(name: str) -> None:
    sample = media_sample(name)
    wanted = detected_types(sample.content_type)
    assert detect(sample.content).mime_type in wanted, (
        "add `magic` to the type in handlers/media/__init__.py, or a check to handlers/detect/signatures.py"
    )
    assert detect(sample.content[:4096]).mime_type in wanted
    assert detect(sample.content, "https://fal.media/files/liar.exe").mime_type in wanted


@pytest.mark.parametrize("asked", [ImageFormat.AUTO, ImageFormat.KEEP])
async def test_valid_file_is_prepared(codec: Codec, tmp_path: Path, name: str, asked: ImageFormat) -> None:
    sample, source = media_sample(name), tmp_path / "source"
    source.write_bytes(sample.content)
    found = await codec.prepare(source, tmp_path / "out", sample.content_type, Profile(format=asked))
    stored = found.path.read_bytes()
    kind = BY_CONTENT_TYPE[sample.content_type].kind
    assert source.read_bytes() == sample.content
    assert (found.file_size, found.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert found.file_size <= len(sample.content)
    assert detect(stored).mime_type in detected_types(found.content_type)
    assert found.extension == BY_CONTENT_TYPE[found.content_type].extension
    assert rejection_reason(found.path, found.content_type) is None
    is_shown = kind in SHOWN or name == "lottie"
    assert (found.width is not None, found.height is not None) == (is_shown, is_shown)
    assert (found.thumbhash is not None) == (kind is Kind.IMAGE and found.content_type not in WITHOUT_PLACEHOLDER)
    if kind is not Kind.IMAGE or asked is ImageFormat.KEEP:
        assert (stored, found.content_type) == (sample.content, sample.content_type)
    if kind in {Kind.VIDEO, Kind.AUDIO}:
        assert found.duration == pytest.approx(1.1, abs=1)
    codec.check(found.path, found.content_type)  # a stored file is valid input


async def test_file_under_another_type_is_refused(codec: Codec, tmp_path: Path, name: str) -> None:
    sample, source = media_sample(name), tmp_path / "source"
    source.write_bytes(sample.content)
    for media in MEDIA_TYPES:
        related = detected_types(sample.content_type) | {other for one, other in RELATED if one == sample.content_type}
        if media.content_type in related:
            continue
        with pytest.raises(FileProcessingError) as caught:
            await codec.prepare(source, tmp_path / "out", media.content_type, Profile())
        assert caught.value.code in {"corrupted", "type_not_supported"}, media.content_type


async def test_empty_file_is_refused_as_every_type(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert detect(b"").media is None
    for content_type in sorted({content_type for content_type, _ in MAKERS.values()}):
        with pytest.raises(FileProcessingError) as caught:
            await codec.prepare(tmp_path / "empty", tmp_path / "out", content_type, Profile())
        assert caught.value.code == "corrupted", content_type
