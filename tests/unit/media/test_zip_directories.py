"""Damaged ZIP files are refused, also those whose directory does not list their local files, each once."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from handlers.errors import FileCorruptedError
from handlers.media import EncodeOptions, Limits, archive
from handlers.media.data import npz
from handlers.media.model import package
from schemas.formats import ImageFormat
from tests.media_samples import media_sample

PREPARED_BY = {"application/zip": archive, "application/x-npz": npz, "model/vnd.usdz+zip": package}
OPTIONS = EncodeOptions(ImageFormat.AUTO, 80, strip_metadata=True, keep_provenance=False)
LIMITS = Limits(max_pixels=1, max_frames=1, max_memory=1 << 30, max_written=1 << 30, seconds=60)


def end_record(members: int, size: int, start: int) -> bytes:
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, members, members, size, start, 0)


def with_entries(content: bytes, *kept: int) -> bytes:
    """Return the archive with only the entries of these numbers in its directory."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        start = opened.start_dir
    entries = [b"PK\1\2" + entry for entry in content[start : content.rindex(b"PK\5\6")].split(b"PK\1\2")[1:]]
    directory = b"".join(entries[number] for number in kept)
    return content[:start] + directory + end_record(len(kept), len(directory), start)


def streamed(*names: str) -> bytes:
    """Return an archive whose members' sizes follow their content, as programs write it to a pipe."""
    output = io.BytesIO()
    output.seekable = lambda: False  # type: ignore[method-assign]
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            made.writestr(name, name * 100)
    return output.getvalue()


def prepared(folder: Path, content: bytes, content_type: str) -> Path:
    source = folder / "source"
    source.write_bytes(content)
    module = PREPARED_BY[content_type]
    return module.prepare(source, folder / "target", content_type, OPTIONS, LIMITS).path  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["zip", "npz", "usdz"])
def test_directory_without_entries_is_refused(tmp_path: Path, name: str) -> None:
    sample = media_sample(name)
    with pytest.raises(FileCorruptedError, match="local files differ"):
        prepared(tmp_path, with_entries(sample.content), sample.content_type)


@pytest.mark.parametrize("kept", [[0], [1], [0, 2], [1, 2], [0, 1, 2, 2]])
def test_directory_that_does_not_list_each_member_once_is_refused(tmp_path: Path, kept: list[int]) -> None:
    content = with_entries(streamed("a", "b", "c"), *kept)
    with pytest.raises(FileCorruptedError, match="local files differ"):
        prepared(tmp_path, content, "application/zip")


def test_entries_in_another_order_are_accepted(tmp_path: Path) -> None:
    content = with_entries(streamed("a", "b", "c"), 2, 0, 1)
    assert prepared(tmp_path, content, "application/zip").read_bytes() == content


def test_model_without_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileCorruptedError, match="no members"):
        prepared(tmp_path, b"scene" + end_record(0, 0, 5), "model/vnd.usdz+zip")


def test_archive_without_members_is_accepted(tmp_path: Path) -> None:
    content = end_record(0, 0, 0)
    assert prepared(tmp_path, content, "application/zip").read_bytes() == content


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_member_is_refused_with_each_compression(tmp_path: Path, method: int) -> None:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", method) as made:
        made.writestr("a", bytes(range(256)))
    content = output.getvalue()
    middle = content.index(b"PK\1\2") // 2
    damaged = content[:middle] + b"\xff" * 40 + content[middle + 40 :]
    assert prepared(tmp_path, content, "application/zip").read_bytes() == content
    with pytest.raises(FileCorruptedError):
        prepared(tmp_path, damaged, "application/zip")
