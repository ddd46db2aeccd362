"""EBML, which Matroska and WebM are laid out in: elements within elements (RFC 8794; RFC 9559)."""

import zlib
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.structure import Content

EBML, SEGMENT, CLUSTER, VOID, CRC = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xEC, 0xBF
LEVEL_1: Final = frozenset(
    {CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469}
)
"""Cluster, SeekHead, Info, Tracks, Cues, Tags, Chapters, Attachments: those that may carry a checksum of the rest."""
CRC_SIZE: Final = 6


def end(content: Content) -> int:
    """Return where the last segment ends; one whose length is not told, being live, goes to the end of the file."""
    at, has_segment = 0, False
    while at < len(content):
        try:
            kind, length, body = _header(content, at)
        except (FileCorruptedError, IndexError):
            break
        if kind not in {EBML, SEGMENT, VOID}:
            break
        last = len(content) if length is None else body + length
        if last > len(content):
            raise FileCorruptedError(f"the file declares {last:,} bytes and has {len(content):,}")
        if kind == SEGMENT:
            has_segment = True
            _walk(content, body, last)
        at = last
    if not has_segment:
        raise FileCorruptedError("the file has no segment")
    return at


def _walk(content: Content, at: int, last: int) -> None:
    """Check that every element ends within its parent; what a parent of untold length holds is read as its siblings."""
    while at < last:
        kind, length, body = _header(content, at)
        if length is None:
            if kind != CLUSTER:
                raise FileCorruptedError(f"the element {kind:#x} at {at:,} tells no length")
            at = body
            continue
        at = body + length
        if at > last:
            raise FileCorruptedError(f"the element {kind:#x} goes beyond its parent's end, at {last:,}")
        if kind in LEVEL_1:
            _check_sum(content, body, at)
        if kind == CLUSTER:
            _walk(content, body, at)


def _check_sum(content: Content, body: int, last: int) -> None:
    if content[body : body + 2] != b"\xbf\x84":  # no checksum, or none of four bytes
        return
    if zlib.crc32(content[body + CRC_SIZE : last]) != int.from_bytes(content[body + 2 : body + CRC_SIZE], "little"):
        raise FileCorruptedError(f"the checksum of the element before {body:,} is wrong")


def _header(content: Content, at: int) -> tuple[int, int | None, int]:
    """Return the element's id, its content's length in bytes (None: not told) and where its content begins."""
    width = 9 - content[at].bit_length()
    if width > 4:  # noqa: PLR2004 - the longest id
        raise FileCorruptedError(f"the file has no element at {at:,}, where one must stand")
    kind = int.from_bytes(content[at : at + width], "big")
    at += width
    width = 9 - content[at].bit_length()
    if width > 8:  # noqa: PLR2004 - the longest length
        raise FileCorruptedError(f"the element {kind:#x} has no length")
    length = int.from_bytes(content[at : at + width], "big") & (1 << 7 * width) - 1
    return kind, None if length == (1 << 7 * width) - 1 else length, at + width
