"""FBX files are refused where readers of FBX find no numbers, and accepted however long lists are wrapped."""

import struct

import pytest

from handlers.errors import FileCorruptedError
from handlers.media.model import fbx
from tests.model_files import fbx_binary, fbx_text

ACCEPTED = {
    "one line": "Vertices: *6 {\na: 0,0,0,1,1,1\n}",
    "several lines": "Vertices: *6 {\na: 0,0,0,\n1,1,\n1\n}",
    "numbers below the name": "Vertices: *2 {\na: \n0,0\n}",
    "an empty array": "Vertices: *0 {\na: \n}",
    "an array without content": "Vertices: *0 {\n}",
    "a list that ends with a comma": "Vertices: 0,0,0,\n1,1,1",
    "a list that goes on with a comma": "Vertices: 0,0,0\n,1,1,1\n,2,2,2",
    "a comment": "; Vertices\nVertices: *1 { ; one\na: 1 ; two\n}",
}
DAMAGED = {
    "numbers without a name": "Vertices: *6 {\n0,0,0,1,1,1\n}",
    "a number too few": "Vertices: *6 {\na: 0,0,0,1,1\n}",
    "a number too many": "Vertices: *6 {\na: 0,0,0,1,1,1,1\n}",
    "a name in the middle": "Vertices: *6 {\na: 0,0,0,\na: 1,1,1\n}",
    "an array that is no array": "Vertices: +6 {\na: 0,0,0,1,1,1\n}",
    "a word alone": "Version: 1\nCr\n",
    "a comment in place of the values": "Version; 1\n",
    "a vertical tab": "Vertices: *1 {\na: 1\n\v}",
    "a corner beyond the vertices": "Vertices: *3 {\na: 0,0,0\n}\nPolygonVertexIndex: *3 {\na: 0,1,-3\n}",
}


def model(geometry: str) -> bytes:
    return f'Objects:  {{\nGeometry: 1, "a", "Mesh" {{\n{geometry}\n}}\n}}\nConnections:  {{\n}}\n'.encode()


@pytest.mark.parametrize("name", ACCEPTED)
def test_text_that_readers_understand_is_accepted(name):
    content = model(ACCEPTED[name])
    assert fbx.check_content(content) == len(content)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_text_is_refused(name):
    with pytest.raises(FileCorruptedError):
        fbx.check_content(model(DAMAGED[name]))


@pytest.mark.parametrize("version", [7400, 7700])
def test_an_array_that_is_not_packed_states_its_size(version):
    content = fbx_binary(version)
    header = struct.pack("<III", 114, 0, 456)
    assert content.count(header) == 1
    assert fbx.check_content(content) == len(content)
    with pytest.raises(FileCorruptedError, match="size of its numbers"):
        fbx.check_content(content.replace(header, struct.pack("<III", 114, 0, 0)))


def test_the_sample_in_text_is_accepted():
    assert fbx.check_content(fbx_text()) == len(fbx_text())
