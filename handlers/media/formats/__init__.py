"""Readers of file formats, one module each. They run in a codec process.

The module of a format has `check_content(content)`, which checks the structure of a whole file and returns where it
ends. If viewers ignore some errors of the format, it has `check_and_repair(content)` instead, which also returns the
parts to store if there is such an error.
The modules of formats that other code reads as well (`png`, `riff`, `isobmff`, `tiff`, `jpeg`, `gif`) also have
iterators over chunks, boxes, directory entries, segments or blocks.

Bytes after the end. A file that is stored unchanged (video, audio, models, archives, and images that are kept) is
stored up to the end that its format defines. Anything after it (a web page, an archive, a program) is cut off before
decoding, so a stored file cannot be valid in a second format that is read from the end. Compressed images lose such
bytes anyway. A file that is shorter than its format declares is `corrupted`. In some formats, bytes after the end
cannot be distinguished from damaged content, and such a file is refused. Examples: AAC and MP3 without a frame count
(padding is cut off), FLAC (the checksum of the last frame fails), OBJ and glTF JSON (not a valid line, not JSON), live
WebM (not an element). TIFF directories may be anywhere in the file, so bytes at its end are kept.

Bytes before or inside. The first bytes decide the type, and no supported format can begin with another one. Content
that a format allows in comments, tags or padding (HTML in a JPEG comment, for example) is kept. This is harmless as
long as files are served with their own content type: each file is stored with the detected one, and Supabase Storage
sends it with every download. If you serve the files yourself, set `X-Content-Type-Options: nosniff`.
"""

import importlib
import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from handlers.detect.signatures import HEAD_BYTES, by_signature
from handlers.errors import FileCorruptedError
from handlers.media import BY_CONTENT_TYPE

Content = bytes | mmap.mmap
"""The bytes of a file. A mapped file is not copied to memory."""
COPY_BYTES: Final = 1 << 20
ZEROS: Final = re.compile(rb"\0*+")
TEXTS: Final = frozenset({"text/plain", "text/csv", "application/json"})
ALSO_DETECTED_AS: Final = {
    "audio/mp4": frozenset({"video/mp4"}),
    "audio/webm": frozenset({"video/webm"}),
    "audio/x-matroska": frozenset({"video/x-matroska"}),
    "audio/quicktime": frozenset({"video/quicktime"}),
    "audio/3gpp": frozenset({"video/3gpp"}),
    "audio/flac": frozenset({"audio/mpeg"}),
    "audio/aac": frozenset({"audio/mpeg"}),
    **dict.fromkeys(("model/obj", "model/mtl", "model/ply", "model/gltf+json", "model/fbx"), TEXTS),
}
"""For a content type, the other types that HEAD_BYTES of such a file may be detected as. Detection does not look for a
video track, a text model may begin with more than HEAD_BYTES of comments, and a large ID3 tag hides what follows it."""


class Part(NamedTuple):
    """A chunk, box or segment: its type, and offsets in bytes.

    The header is at `start`, the body from `body` to `body_end`. The next part follows at `end`, after a checksum or
    padding.
    """

    kind: bytes
    start: int
    body: int
    body_end: int
    end: int


class Checked(NamedTuple):
    """Where a valid file ends, and the parts to store if it must be repaired, as bytes or offsets (start, end)."""

    end: int
    parts: Sequence[bytes | tuple[int, int]] = ()


@contextmanager
def mapped(source: Path) -> Iterator[mmap.mmap]:
    """Map a file to memory for reading.

    Raises:
        FileCorruptedError: the file is empty.
    """
    if source.stat().st_size == 0:
        raise FileCorruptedError("the file is empty")
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def check_structure(source: Path, content_type: str) -> int:
    """Check the structure of a file and return where it ends, or the file size if its format does not mark an end.

    Raises:
        FileCorruptedError: the file has another type, its structure is damaged, or it is incomplete.
        DecoderLimitError, FileTypeNotSupportedError: only some formats; see their `check_content`.
    """
    with mapped(source) as content:
        return _check(content, content_type).end


def cut_tail(source: Path, target: Path, content_type: str) -> Path:
    """Return `source` if nothing follows the end of its format, and nothing in it has to be repaired.

    Else copy the file up to its end to `target`, repaired if necessary, and return `target`. Raises the errors of
    `check_structure`.
    """
    with mapped(source) as content:
        end, parts = _check(content, content_type)
        if not parts and end >= len(content):
            return source
        with target.open("wb") as copy:
            for part in parts or [(0, end)]:
                _write_part(copy, content, part)
    return target


def _check(content: Content, content_type: str) -> Checked:
    name = BY_CONTENT_TYPE[content_type].structure
    if name is None:
        return Checked(len(content))
    detected = by_signature(content[:HEAD_BYTES])
    if detected not in {None, content_type, *ALSO_DETECTED_AS.get(content_type, ())}:
        raise FileCorruptedError(f"the content is not {content_type} but {detected}")
    module = importlib.import_module(f"handlers.media.{name}")
    try:
        if hasattr(module, "check_and_repair"):
            checked: Checked = module.check_and_repair(content)
            return checked
        return Checked(module.check_content(content))
    except IndexError:
        raise FileCorruptedError(f"the file ends in the middle of a header, at {len(content):,} bytes") from None


def _write_part(copy: BinaryIO, content: Content, part: bytes | tuple[int, int]) -> None:
    """Write bytes, or what is between two offsets of the content."""
    if isinstance(part, bytes):
        copy.write(part)
        return
    start, end = part
    copy.writelines(content[at : min(at + COPY_BYTES, end)] for at in range(start, end, COPY_BYTES))
