"""Lines and rows that are checked together get the same verdict as each one alone."""
# ruff: noqa: S311 - random samples

import random
import re
import struct
from collections.abc import Callable

import pytest

from handlers.errors import FileCorruptedError
from handlers.media.formats.crc16 import CRC16_START, continue_crc16
from handlers.media.model import obj, ply
from handlers.media.model.ply import binary_rows, text_rows

NEVER = re.compile(rb"(?!)")
ODD_WORDS = (
    b"nan",
    b"inf",
    b"1e999",
    b"-1",
    b"0",
    b"9",
    b"1_0",
    b".",
    b"5.",
    b".5e1",
    b"1e-310",
    b"",
    b"\\",
    b"\r",
    b"x",
)
ALPHABET = b"0123456789.e+- /\tvnft\r\n\\#\0"


def verdict(check: Callable[[bytes], int], content: bytes) -> object:
    """Return where the content ends, or that it is refused."""
    try:
        return check(content)
    except FileCorruptedError:
        return "refused"


def damaged(source: random.Random, content: bytes, separators: bytes = b" ") -> bytes:
    """Return the content with one word or one byte replaced, or unchanged."""
    if source.random() < 0.2:
        return content
    if source.random() < 0.5:
        at = source.randrange(len(content))
        return content[:at] + bytes([source.choice(ALPHABET)]) + content[at + 1 :]
    words = content.split(separators)
    words[source.randrange(len(words))] = source.choice(ODD_WORDS)
    return separators.join(words)


def obj_text(source: random.Random) -> bytes:
    corner = source.choice((b"%d", b"%d/1", b"%d/1/2", b"%d//2"))
    end = source.choice((b"\n", b"\r\n", b" \n", b"\r"))
    lines = [b"v %g %g %g" % tuple(source.gauss(0, 10 ** source.randint(-6, 6)) for _ in "xyz") for _ in range(9)]
    lines += [b"vn 0 0 1", b"vt 0.5 .5"] * source.randint(0, 3)
    lines += [
        b"f " + b" ".join(corner % source.randint(1, 9) for _ in range(source.choice((3, 3, 4)))) for _ in "abcdef"
    ]
    return end.join(lines) + end


def ply_text(source: random.Random) -> bytes:
    faces = [[source.randint(0, 5) for _ in range(source.choice((3, 3, 3, 4)))] for _ in range(8)]
    rows = [b"%g %g %d" % (source.gauss(0, 1), source.gauss(0, 1e6), source.randint(-9, 9)) for _ in range(6)]
    rows += [b"%d " % len(face) + b" ".join(b"%d" % corner for corner in face) for face in faces]
    return source.choice((b"\n", b"\r\n")).join(rows) + b"\n"


def ply_header(encoding: str, z: str = "int") -> bytes:
    vertices = f"element vertex 6\nproperty float x\nproperty double y\nproperty {z} z\n"
    faces = "element face 8\nproperty list uchar int vertex_indices\n"
    return f"ply\nformat {encoding} 1.0\n{vertices}{faces}end_header\n".encode()


def ply_binary(source: random.Random) -> bytes:
    rows = b"".join(struct.pack("<fdi", 1, 2, 3) for _ in range(6))
    faces = [[source.randint(0, 5) for _ in range(source.choice((3, 3, 3, 4)))] for _ in range(8)]
    return rows + b"".join(struct.pack(f"<B{len(face)}i", len(face), *face) for face in faces)


def test_runs_of_obj_lines_get_the_verdict_of_single_lines(monkeypatch):
    source = random.Random(5)
    contents = [damaged(source, obj_text(source)) for _ in range(600)]
    together = [verdict(obj.check_content, content) for content in contents]
    monkeypatch.setattr(obj, "RUN", NEVER)
    assert [verdict(obj.check_content, content) for content in contents] == together
    assert 100 < together.count("refused") < 500


def test_runs_of_ply_lines_get_the_verdict_of_single_lines(monkeypatch):
    source = random.Random(6)
    contents = [ply_header("ascii") + damaged(source, ply_text(source)) for _ in range(600)]
    together = [verdict(ply.check_content, content) for content in contents]
    monkeypatch.setattr(text_rows, "_layout", lambda *_: None)
    assert [verdict(ply.check_content, content) for content in contents] == together
    assert 100 < together.count("refused") < 500


def test_runs_of_ply_rows_get_the_verdict_of_single_rows(monkeypatch):
    source = random.Random(7)
    contents = []
    for _ in range(600):
        rows = bytearray(ply_binary(source))
        rows[source.randrange(len(rows))] ^= 1 << source.randrange(8) if source.random() < 0.7 else 0
        contents.append(ply_header("binary_little_endian") + rows[: len(rows) - source.choice((0, 0, 1))])
    together = [verdict(ply.check_content, content) for content in contents]
    monkeypatch.setattr(binary_rows, "MAX_ROWS", 1)
    binary_rows._layout.cache_clear()
    assert [verdict(ply.check_content, content) for content in contents] == together
    binary_rows._layout.cache_clear()
    assert 100 < together.count("refused") < 500


@pytest.mark.parametrize("lists", ["list uchar int vertex_indices", "list uchar float uv"])
def test_rows_of_several_lists_are_checked(lists):
    header = ply_header("binary_big_endian").replace(b"end_header", f"property {lists}\nend_header".encode())
    vertices = b"".join(struct.pack(">fdi", 1, 2, 3) for _ in range(6))
    faces = b"".join(struct.pack(">B3iB3i", 3, 0, 1, 5, 3, 0, 1, last) for last in (2, 3, 5, 6, 5, 5, 5, 5))
    expected = "refused" if "int" in lists else len(header + vertices + faces)
    assert verdict(ply.check_content, header + vertices + faces) == expected
    assert verdict(ply.check_content, header + vertices + faces[:-1]) == "refused"


def test_crc16_is_that_of_flac():
    def by_bits(content: bytes) -> int:
        crc = 0
        for byte in content:
            crc ^= byte << 8
            for _ in range(8):
                crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1
        return crc

    source = random.Random(8)
    for size in (0, 1, 2, 13, 14, 15, 16, 29, 31, 500):
        content = source.randbytes(size)
        crc = by_bits(content)
        for wrong in (0, *(1 << bit for bit in range(16))):
            end = (crc ^ wrong).to_bytes(2, "big")
            whole = continue_crc16(CRC16_START, content + end)
            assert (whole == CRC16_START) == (wrong == 0)
            assert (
                continue_crc16(continue_crc16(CRC16_START, content[: size // 3]), content[size // 3 :] + end) == whole
            )
