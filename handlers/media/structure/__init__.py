"""How files are laid out: one module for each structure, which walks it to its end. Runs in a codec process.

What stands after the end. A file that is stored as it came (video, sound, models, archives, and images that are kept)
is stored up to where its format says that it ends: whatever follows, a web page, an archive or a program, is cut off
before anything is decoded, so that no file is stored that is something else as well from behind. Images that are
compressed lose it anyway. A file whose format tells that bytes lack, or whose structure breaks off before its end, is
`corrupted`. Some formats cannot be cut, since what follows their end might as well be their own content destroyed, and
such a file is refused: AAC and MP3 that does not count its frames (padding is cut off), FLAC (whose last frame's
checksum fails), OBJ and glTF's JSON (where it is no line, or no JSON), live WebM (where it is no element). A TIFF's
directories may lie anywhere in the file, so that its tail stays.

What stands before or inside. Types are decided from the first bytes alone, no format here may begin with another, and
content that formats allow in their own comments, tags and padding (HTML in a JPEG's comment, say) is left there. It
does no harm as long as files are served as what they are: each is stored with the content type that was found, and
Supabase Storage sends that with every download. Set `X-Content-Type-Options: nosniff` where you serve them yourself.
"""

import importlib
import mmap
from pathlib import Path
from typing import Final

from handlers.detect.signatures import HEAD_BYTES, by_signature
from handlers.errors import FileCorruptedError
from handlers.media import BY_CONTENT_TYPE

Content = bytes | mmap.mmap
"""A file's bytes; a mapped file costs no memory."""
PIECE: Final = 1 << 20
ALSO: Final = {"audio/mp4": "video/mp4"}
"""What a type may look like as well: an MP4 without a picture is sound."""


def end_of(source: Path, content_type: str) -> int:
    """Walk the file's structure and return where it ends, in bytes; the file's size where its format tells no end.

    Raises:
        FileCorruptedError: it is another type, its structure is damaged, or goes beyond the end of the file.
    """
    layout = BY_CONTENT_TYPE[content_type].layout
    size = source.stat().st_size
    if size == 0:
        raise FileCorruptedError("the file is empty")
    if layout is None:
        return size
    module = importlib.import_module(f"handlers.media.structure.{layout}")
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = by_signature(content[:HEAD_BYTES])
        if found not in {None, content_type, ALSO.get(content_type)}:
            raise FileCorruptedError(f"the content is not {content_type} but {found}")
        try:
            end: int = module.end(content)
        except IndexError:
            raise FileCorruptedError(f"the file ends in the middle of a header, at {size:,} bytes") from None
    return end


def without_tail(source: Path, target: Path, content_type: str) -> Path:
    """Return `source` where it ends as its format says; else write it without what follows, and return `target`.

    Raises:
        FileCorruptedError: the structure is damaged, or goes beyond the end of the file.
    """
    end = end_of(source, content_type)
    if end >= source.stat().st_size:
        return source
    with source.open("rb") as file, target.open("wb") as shorter:
        while end > 0 and (piece := file.read(min(PIECE, end))):
            shorter.write(piece)
            end -= len(piece)
    return target
