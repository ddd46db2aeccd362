"""Weights and arrays are accepted whole, and refused when their header does not fit their content."""

import io
import json
import pickle
import struct

import numpy as np
import pytest

from handlers.detect import detect
from handlers.errors import FileCorruptedError, FileTypeNotSupportedError
from handlers.media.data import npy, safetensors
from handlers.media.text import json_file, plain, subtitles, tables


def weights(header: object, size: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def tensor(start: int, end: int, kind: str = "F32", shape: tuple[int, ...] = (2,)) -> dict:
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}


ACCEPTED = {
    "one tensor": ({"a": tensor(0, 8)}, 8),
    "in another order": ({"b": tensor(8, 16), "a": tensor(0, 8)}, 16),
    "an empty tensor": ({"a": tensor(0, 0, shape=(0, 4)), "b": tensor(0, 8)}, 8),
    "a scalar": ({"a": tensor(0, 4, shape=())}, 4),
    "metadata only": ({"__metadata__": {"format": "pt"}}, 0),
    "four bits": ({"a": tensor(0, 1, "F4")}, 1),
}
DAMAGED = {
    "data is missing": ({"a": tensor(0, 8)}, 7),
    "a gap": ({"a": tensor(0, 8), "b": tensor(12, 20)}, 20),
    "an overlap": ({"a": tensor(0, 8), "b": tensor(4, 12)}, 12),
    "a hole at the beginning": ({"a": tensor(4, 12)}, 12),
    "another shape": ({"a": tensor(0, 8, shape=(3,))}, 8),
    "a negative side": ({"a": tensor(0, 8, shape=(-2,))}, 8),
    "an unknown type": ({"a": tensor(0, 8, "F7")}, 8),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2]}}, 8),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, 0),
    "a list": ([1, 2], 0),
    "no json": (b'{"a": ', 8),
    "a name twice": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":null}', 1),
    "nested lists": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0),
    "a huge shape": ({"a": tensor(0, 8, shape=(2**62, 2**62))}, 8),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_whole_weights_are_accepted(name):
    content = weights(*ACCEPTED[name])
    assert safetensors.check_content(content) == len(content)
    assert safetensors.check_content(content + b"tail") == len(content)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_weights_are_refused(name):
    with pytest.raises(FileCorruptedError):
        safetensors.check_content(weights(*DAMAGED[name]))


@pytest.mark.parametrize("cut", [0, 4, 8, 20])
def test_weights_without_their_header_are_refused(cut):
    with pytest.raises(FileCorruptedError):
        safetensors.check_content(weights({"a": tensor(0, 8)}, 8)[:cut])


def saved(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4), "<f4"),
        np.zeros((3, 4), ">f8"),
        np.asfortranarray(np.zeros((3, 4), "<i2")),
        np.zeros((), "<f4"),
        np.zeros((0, 5), "<f4"),
        np.zeros(3, "?"),
        np.zeros(3, "<U7"),
        np.zeros(3, "S7"),
        np.zeros(3, "<c16"),
        np.zeros(3, "<M8[ns]"),
        np.zeros(3, [("a", "<f4"), ("b", "<i2", (2, 2)), ("c", [("d", "u1")])]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_an_array_ends_where_numpy_ends_it(array):
    for version in ((1, 0), (2, 0)):
        content = saved(array, version=version)
        assert npy.check_content(content + b"tail") == len(content)
        if array.nbytes:
            with pytest.raises(FileCorruptedError):
                npy.check_content(content[:-1])


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_pickled_objects_are_refused_and_not_unpickled():
    objects = saved(np.array([1, "a"], dtype=object), allow_pickle=True)
    bomb = objects[: objects.index(b"\n") + 1] + pickle.dumps(Bomb())
    for content in (objects, bomb):
        with pytest.raises(FileTypeNotSupportedError):
            npy.check_content(content)
    structured = saved(np.zeros(2, [("a", "<f4"), ("b", object)]), allow_pickle=True)
    with pytest.raises(FileTypeNotSupportedError):
        npy.check_content(structured)


@pytest.mark.parametrize(
    "header",
    [
        b"__import__('os').system('false')",
        b"{'descr': '<f4', 'fortran_order': False}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        b"{'descr': 'x9', 'fortran_order': False, 'shape': (1,)}",
        b"{'descr': [], 'fortran_order': False, 'shape': (1,)}",
        b"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} \x1e \n",
        b"(" * 5000,
        b"{'descr': " + b"[('a', " * 50 + b"'<f4'" + b")]" * 50 + b", 'fortran_order': False, 'shape': (1,)}",
        b"\xff\xfe",
    ],
)
def test_a_damaged_header_of_an_array_is_refused(header):
    with pytest.raises(FileCorruptedError):
        npy.check_content(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(100))


def test_lottie_properties_are_read_only_from_valid_animations():
    animation = {"v": "5", "layers": [], "w": 100, "h": 50, "fr": 25, "ip": 0, "op": 100}
    assert json_file._lottie_properties(animation) == {"width": 100, "height": 50, "frames": 100, "duration": 4.0}
    for change in ({"w": -1}, {"h": "a"}, {"fr": 0}, {"layers": {}}, {"w": 10**9}, {"w": float("inf")}):
        assert json_file._lottie_properties(animation | change) == {}
    assert "duration" not in json_file._lottie_properties(animation | {"op": float("nan")})


@pytest.mark.parametrize("content", [b"{}x", b"[1,]", b"{'a': 1}", b"[1", b'{"a": "\xff"}', b'{"a": "\x01"}', b"[\0]"])
def test_damaged_json_is_refused(content):
    with pytest.raises(FileCorruptedError):
        json_file.check_content(content)


@pytest.mark.parametrize("content", [b"a\0b", b"\xff", "\u00e4".encode()[:1], b"a\x08b", "a".encode("utf-16")])
def test_what_is_no_utf_8_text_is_refused(content):
    with pytest.raises(FileCorruptedError):
        plain.check_content(content)


def test_text_is_checked_across_the_borders_of_pieces():
    content = b"a" * (plain.TEXT_PIECE_BYTES - 1) + "\u00e4".encode() * plain.TEXT_PIECE_BYTES
    assert plain.check_content(content) == len(content)


@pytest.mark.parametrize(
    "content",
    [
        b"WEBVTT\n\n00:05.000 --> 00:01.000\na\n",
        b"WEBVTT\n\n00:0x.000 --> 00:01.000\na\n",
        b"1\n00:00:01,000 --> 00:00:\na\n",
        b"a\nb\n",
    ],
)
def test_subtitles_with_damaged_times_are_refused(content):
    with pytest.raises(FileCorruptedError):
        subtitles.check_content(content)


def test_subtitles_with_settings_and_without_cues_are_accepted():
    for content in (b"WEBVTT\n", b"WEBVTT - a\n\nNOTE b\n\n1\n00:01.000 --> 00:02.000 align:start\n<b>a</b>\n"):
        assert subtitles.check_content(content) == len(content)


@pytest.mark.parametrize(
    ("content", "mime_type"),
    [
        (b"name,seed\na,1\nb,2\n", "text/csv"),
        (b"a;b\r\n1;2\r\n", "text/csv"),
        (b'a\tb\n"x\ny"\t2\n', "text/csv"),
        (b"A cat, a dog\nA cow, a hen\n", "text/plain"),
        (b"a,b\n1,2,3\n", "text/plain"),
        (b"a,b\n", "text/plain"),
        (b"seed 1\nseed 2\n", "text/plain"),
    ],
)
def test_tables_are_told_from_prose(content, mime_type):
    assert detect(content).mime_type == mime_type
    if mime_type == "text/csv":
        assert tables.check_content(content) == len(content)


def test_a_table_with_an_open_quotation_mark_is_refused():
    with pytest.raises(FileCorruptedError):
        tables.check_content(b'a,b\n1,2\n"c,3\n')
