"""Bytes after the end of a file are not stored; the docstring of `handlers.media.formats` describes the rules."""

import io
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from handlers.codec.codec import Codec
from handlers.codec.decoder_main import prepare
from handlers.codec.work_folder import WorkFolder
from handlers.detect import detect
from handlers.errors import FileCorruptedError, FileProcessingError
from handlers.media import Limits
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.media_samples import MAKERS, detected_types, media_sample

pytestmark = pytest.mark.slow

PAGE = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
REFUSED = {
    "mp3 without counts": "the bytes may be damaged frames",
    "aac": "the same",
    "flac": "its frames declare no length",
    "gltf": "JSON ends where the text does",
    "obj": "not a valid line",
    "fbx in text": "not a valid line",
    "mtl": "the same",
    "csv": "its cells are not closed, or it is no text",
    "json": "JSON ends where the text does",
    "lottie": "the same",
    "svg": "XML ends with its root",
    "ts": "not whole packets",
    "splat": "not whole splats, or numbers that are not finite",
    "webm, live": "a segment of unknown length extends to the end of the file",
}
KEPT = {
    "tiff": "its directories may be anywhere",
    "tiff, packed": "the same",
}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evil.class", b"\xca\xfe\xba\xbe")
    return buffer.getvalue()


TEXTS = {"vtt", "srt", "text"}
"""They have no end: what follows is more text, or no text."""
TAILS = {
    "a page": PAGE,
    "an archive": zipped(),
    "a document": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
    "a program": b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0\x64\x86" + bytes(200),
}


@pytest.mark.parametrize("tail", TAILS)
async def test_bytes_after_the_end_are_cut_off_or_the_file_is_refused(
    codec: Codec, tmp_path: Path, name: str, tail: str
) -> None:
    sample, source = media_sample(name), tmp_path / "source"
    source.write_bytes(sample.content + TAILS[tail])
    keep = Profile(format=ImageFormat.KEEP)
    if name in REFUSED or (name in TEXTS and tail != "a page"):
        with pytest.raises(FileCorruptedError):
            await codec.prepare(source, tmp_path / "out", sample.content_type, keep)
        return
    assert detect(source.read_bytes()).mime_type in detected_types(sample.content_type)
    found = await codec.prepare(source, tmp_path / "out", sample.content_type, keep)
    kept = TAILS[tail] if name in KEPT or name in TEXTS else b""
    assert found.path.read_bytes() == sample.content + kept
    assert found.file_size == len(sample.content + kept)
    assert source.read_bytes() == sample.content + TAILS[tail]


@pytest.mark.parametrize("padding", [bytes(500), b"\xff" * 500], ids=["zeros", "ones"])
@pytest.mark.parametrize(
    "image", [name for name, (kind, _) in MAKERS.items() if kind.startswith("image/") and name != "svg"]
)
async def test_padding_does_not_change_a_compressed_image(
    codec: Codec, tmp_path: Path, image: str, padding: bytes
) -> None:
    sample, source = media_sample(image), tmp_path / "source"
    source.write_bytes(sample.content)
    without = await codec.prepare(source, tmp_path / "without", sample.content_type, Profile())
    source.write_bytes(sample.content + padding)
    found = await codec.prepare(source, tmp_path / "out", sample.content_type, Profile())
    assert (found.content_type, found.width, found.frames) == (without.content_type, without.width, without.frames)


@pytest.mark.parametrize("whole", ["png", "wav", "zip"])
def test_a_full_disk_while_a_tail_is_cut_off_is_retryable(tmp_path: Path, whole: str) -> None:
    sample, files = media_sample(whole), WorkFolder(tmp_path / "work")
    files.create()
    files.source.write_bytes(sample.content + PAGE)
    for copy in (files.target, files.target.with_name("source.cut"), files.target.with_name("whole")):
        copy.symlink_to("/dev/full")  # every write fails with ENOSPC
    options = {
        "format": "keep",
        "quality": 85,
        "strip_metadata": True,
        "keep_provenance": False,
        "ssim": 0.985,
        "variants": [],
    }
    limits = asdict(Limits(max_pixels=10**8, max_frames=1000, max_memory=1 << 30, max_written=1 << 30, seconds=60))
    with pytest.raises(FileProcessingError, match="No space left") as failed:
        prepare(str(files.path), sample.content_type, options, limits)
    assert (failed.value.code, failed.value.retryable) == ("disk_full", True)
