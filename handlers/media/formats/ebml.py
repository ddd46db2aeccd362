"""EBML, the container of Matroska and WebM: elements inside elements (RFC 8794; RFC 9559)."""

import zlib
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Content

EBML, SEGMENT, CLUSTER, VOID = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xEC
WITH_CHECKSUM: Final = frozenset(
    {CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469}
)
"""Cluster, SeekHead, Info, Tracks, Cues, Tags, Chapters and Attachments may begin with a checksum of their rest."""
CHECKSUM_HEADER: Final = b"\xbf\x84"
"""Id and length of a CRC-32 element."""
CHECKSUM_BYTES: Final = 6
MAX_ID_BYTES, MAX_LENGTH_BYTES = 4, 8


def check_content(content: Content) -> int:
    """Check every element; return where the last outermost one ends. A live segment, of unknown length, ends the file.

    Raises:
        FileCorruptedError: an element is damaged, or the file is shorter than it declares.
        IndexError: it ends in the middle of an element header.
    """
    at, has_segment = 0, False
    while at < len(content):
        try:
            kind, length, body = _read_header(content, at)
        except (FileCorruptedError, IndexError):
            break
        if kind not in {EBML, SEGMENT, VOID}:
            break
        end = len(content) if length is None else body + length
        if end > len(content):
            raise FileCorruptedError(f"the file declares {end:,} bytes and has {len(content):,}")
        if kind == SEGMENT:
            has_segment = True
            _check_elements(content, body, end)
        at = end
    if not has_segment:
        raise FileCorruptedError("the file has no segment")
    return at


def _check_elements(content: Content, at: int, end: int, *, in_cluster: bool = False) -> None:
    """Check the elements between two offsets: each must end there and match its checksum, if it has one.

    The elements of a cluster are checked, too. Those of a cluster of unknown length are taken for its siblings.
    """
    while at < end:
        kind, length, body = _read_header(content, at)
        if length is None:
            if kind != CLUSTER:
                raise FileCorruptedError(f"the element {kind:#x} at {at:,} has no length")
            at = body
            continue
        at = body + length
        if at > end:
            raise FileCorruptedError(f"the element {kind:#x} goes beyond its parent's end, at {end:,}")
        if kind in WITH_CHECKSUM:
            _check_checksum(content, body, at)
        if kind == CLUSTER:
            if in_cluster:
                raise FileCorruptedError(f"the cluster whose content begins at {body:,} is inside another one")
            _check_elements(content, body, at, in_cluster=True)


def _check_checksum(content: Content, body: int, end: int) -> None:
    if content[body : body + 2] != CHECKSUM_HEADER:
        return
    start = body + CHECKSUM_BYTES
    if zlib.crc32(content[start:end]) != int.from_bytes(content[body + 2 : start], "little"):
        raise FileCorruptedError(f"the checksum of the element whose content begins at {body:,} is wrong")


def _read_header(content: Content, at: int) -> tuple[int, int | None, int]:
    """Return the id of the element, the length of its body in bytes (None: unknown) and where the body begins."""
    width = 9 - content[at].bit_length()
    if width > MAX_ID_BYTES:
        raise FileCorruptedError(f"the file has no element at {at:,}, where one must be")
    kind = int.from_bytes(content[at : at + width], "big")
    at += width
    width = 9 - content[at].bit_length()
    if width > MAX_LENGTH_BYTES:
        raise FileCorruptedError(f"the element {kind:#x} has no length")
    length = int.from_bytes(content[at : at + width], "big") & (1 << 7 * width) - 1
    return kind, None if length == (1 << 7 * width) - 1 else length, at + width
