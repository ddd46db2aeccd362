"""JPEG: segments, and coded data up to the next marker (ITU-T T.81, annex B).

A file of several pictures (CIPA DC-007, "MPF") lists them in the first one. HDR photographs store their gain maps in
this way. Programs that change a file often leave the list as it was, or drop the other pictures.

Decoders skip bytes between segments that belong to none, and ignore some wrong fields, each with a warning. libvips
fails at a warning, since it may also mean missing data. So these errors are repaired before the image is decoded.
"""

import re
from collections.abc import Iterator
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media.formats import Checked, Content, Part, tiff

START_OF_IMAGE: Final = b"\xff\xd8"
END_OF_IMAGE, START_OF_SCAN, APP0, APP2, COMMENT = b"\xd9", b"\xda", b"\xe0", b"\xe2", b"\xfe"
SEQUENTIAL: Final = frozenset({b"\xc0", b"\xc1"})
WHOLE_BLOCK: Final = b"\0\x3f\0"
"""First and last coefficient, and their precision, in every scan of a sequential image (B.2.3)."""
SKIPPED: Final = frozenset(bytes([marker]) for marker in (*range(0xE0, 0xF0), 0xFE))
"""Segments that decoders skip even if their length field is too small to be true: APPn and COM."""
MAX_CORRECTIONS: Final = 500
LENGTH_BYTES: Final = 2
FILL: Final = b"\xff"
"""The first byte of every marker; writers may repeat it."""
JFIF: Final = b"JFIF\0"
MPF: Final = b"MPF\0"
MAX_PICTURES: Final = 1000
PICTURE_LIST: Final = 0xB002
"""The MPF tag that lists the pictures, 16 bytes each."""
WITHOUT_LENGTH: Final = frozenset(bytes([marker]) for marker in (0x01, *range(0xD0, 0xD8)))
"""Markers that are not followed by a length."""
NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A marker after coded data, in which 0xFF is followed by zero or by the number of a restart marker. Searching for one
0xFF instead of a run of them is several times as fast."""
ANY_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)


def check_and_repair(content: Content) -> Checked:
    """Check every segment; return the end of the end-of-image marker, or of the last picture in the list.

    No byte is moved by a repair, since the list of pictures has offsets. Bytes that belong to no segment become FILL.

    Raises:
        FileCorruptedError: a segment is damaged, the file is incomplete, or there are too many errors to repair.
        IndexError: it ends in the middle of a segment header.
    """
    corrections: dict[int, bytes] = {}
    previous, is_sequential, listing = Part(b"", 0, 0, 0, len(START_OF_IMAGE)), False, None
    for segment in segments(content):
        is_sequential = is_sequential or segment.kind in SEQUENTIAL
        corrections.update(_corrections(content, previous, segment, is_sequential=is_sequential))
        if len(corrections) > MAX_CORRECTIONS:
            raise FileCorruptedError("the image has too many bytes between its segments")
        listing = segment if _lists_pictures(content, segment) else listing
        previous = segment
    end = previous.end
    if listing is not None:
        others = _pictures_after(content, end, listing)
        end = max([end, *(other_end for _, other_end in others)])
        if not others:
            corrections[listing.start] = FILL * (listing.end - listing.start)
    return Checked(end, _with_corrections(corrections, end))


def other_pictures(content: Content) -> list[tuple[int, int]]:
    """Return the start and the end of each picture after the first, such as a gain map, if the file lists any.

    Raises:
        FileCorruptedError: a segment is damaged, or the file is incomplete.
    """
    if content.find(MPF) < 0:  # a search takes a tenth of the time that the segments take
        return []
    end, listing = 0, None
    for segment in segments(content):
        end = segment.end
        listing = segment if _lists_pictures(content, segment) else listing
    return [] if listing is None else _pictures_after(content, end, listing)


def _lists_pictures(content: Content, segment: Part) -> bool:
    return segment.kind == APP2 and content[segment.body : segment.body + len(MPF)] == MPF


def _pictures_after(content: Content, end: int, listing: Part) -> list[tuple[int, int]]:
    """Return the start and the end of each picture after the first one, which ends at `end`."""
    return _listed_pictures(content, listing.body + len(MPF)) or _following_pictures(content, end)


def segments(content: Content, at: int = 0) -> Iterator[Part]:
    """Yield the segments of the image at an offset, up to its end; `kind` is the second byte of the marker.

    Coded data lies between the end of one segment and the start of the next. Other bytes there belong to no segment.

    Raises:
        FileCorruptedError: the image does not begin as JPEG, a segment has no length, or the image has no end.
        IndexError: it ends in the middle of a segment header.
    """
    if content[at : at + len(START_OF_IMAGE)] != START_OF_IMAGE:
        raise FileCorruptedError("the image does not begin as a JPEG")
    at, kind = at + len(START_OF_IMAGE), b""
    while kind != END_OF_IMAGE:
        marker = (NEXT_MARKER if kind == START_OF_SCAN else ANY_MARKER).search(content, at)
        if marker is None:
            raise FileCorruptedError("the image has no end: it is not complete")
        start = marker.start()
        kind, body = bytes(content[start + 1 : start + 2]), start + 2
        if kind == END_OF_IMAGE or kind in WITHOUT_LENGTH:
            end = body
        else:
            length = content[body] << 8 | content[body + 1]
            if length < LENGTH_BYTES and kind not in SKIPPED:
                raise FileCorruptedError(f"the image's segment at {start:,} has a length of {length}")
            end = body + max(length, LENGTH_BYTES)
            body += LENGTH_BYTES
        yield Part(kind, start, body, end, end)
        at = end


def _with_corrections(corrections: dict[int, bytes], end: int) -> list[bytes | tuple[int, int]]:
    """Return the parts of the repaired file, as bytes or offsets; none if there is nothing to correct."""
    parts: list[bytes | tuple[int, int]] = []
    at = 0
    for start, correct in sorted(corrections.items()):
        parts += [(at, start), correct]
        at = start + len(correct)
    return [*parts, (at, end)] if parts else []


def _corrections(
    content: Content, previous: Part, segment: Part, *, is_sequential: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield corrections of the bytes before a segment and of the segment: an offset, and the bytes to write there."""
    if previous.kind != START_OF_SCAN:
        between = content[previous.end : segment.start]
        if between.strip(FILL):
            yield previous.end, FILL * len(between)
    correct = _correction(content, segment, is_sequential=is_sequential)
    if correct is not None:
        yield correct


def _correction(content: Content, segment: Part, *, is_sequential: bool) -> tuple[int, bytes] | None:
    has_no_length = segment.kind in SKIPPED and content[segment.body - 2 : segment.body] in {b"\0\0", b"\0\1"}
    if has_no_length or segment.kind in WITHOUT_LENGTH:  # the second kind has no meaning outside coded data
        return segment.start, FILL * (segment.end - segment.start)
    version = segment.body + len(JFIF)
    if segment.kind == APP0 and content[segment.body : version] == JFIF and content[version] != 1:
        return version, b"\1"
    last = segment.end - len(WHOLE_BLOCK)
    if segment.kind == START_OF_SCAN and is_sequential and content[last : segment.end] != WHOLE_BLOCK:
        return last, WHOLE_BLOCK
    return None


def _listed_pictures(content: Content, start: int) -> list[tuple[int, int]]:
    """Return the start and the end of each picture after the first in a list; none if the list does not fit the file.

    The list's offsets count from `start`.
    """
    places = []
    try:
        for offset, size in _read_list(content, start):
            picture, end = start + offset, start + offset + size
            if end > len(content) or content[picture : picture + 2] != START_OF_IMAGE:
                return []
            places.append((picture, end))
            if len(places) > MAX_PICTURES:
                return []
    except FileCorruptedError:
        return []
    return places


def _read_list(content: Content, start: int) -> Iterator[tuple[int, int]]:
    """Yield the offset and the size of each picture after the first in an MPF list."""
    layout = tiff.Layout(">" if content[start : start + 2] == b"MM" else "<")
    (directory,) = layout.read(content, start + 4, "I")
    lists = (entry for entry in tiff.entries(content, start + directory, layout) if entry.tag == PICTURE_LIST)
    entry = next(lists, None)
    if entry is None:
        return
    (pictures,) = layout.read(content, entry.value, "I")
    for picture in range(start + pictures, start + pictures + entry.number, 16):
        size, offset = layout.read(content, picture + 4, "II")
        if offset:
            yield offset, size


def _following_pictures(content: Content, end: int) -> list[tuple[int, int]]:
    """Return the start and the end of each picture that follows directly after the first one.

    Raises:
        FileCorruptedError: one is incomplete.
    """
    places: list[tuple[int, int]] = []
    while content[end : end + 2] == START_OF_IMAGE and len(places) < MAX_PICTURES:
        start = end
        for segment in segments(content, start):
            end = segment.end
        places.append((start, end))
    return places
