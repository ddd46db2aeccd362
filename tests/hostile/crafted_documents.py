"""Small files of the formats beside those of `crafted_files` that declare, or unpack to, far more than they contain."""

import io
import struct
import zipfile
import zlib

from tests import document_samples, model_files
from tests.hostile.crafted_files import zeros


def bmp(side: int) -> bytes:
    """Return a run-length encoded BMP: no pixels are missing, although it has a few bytes only."""
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 2, 0, 0, 1, 0)
    return struct.pack("<2sI4xI", b"BM", 60, 58) + header + bytes(4) + b"\0\1"


def tga(side: int) -> bytes:
    return struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, side, side, 24, 0) + b"\xff\0\0\0" * 100


def ico(picture: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(picture), 22) + picture


def jp2(side: int) -> bytes:
    """Return a whole small picture whose header and codestream declare another size."""
    content = document_samples.pillow("JPEG2000")
    real = struct.pack(">II", document_samples.SIDE, document_samples.SIDE)
    return content.replace(real, struct.pack(">II", side, side))


def psd(side: int) -> bytes:
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, side, side, 8, 3)
    return header + bytes(12) + b"\0\1" + bytes(2 * 3 * side)


def exr(side: int) -> bytes:
    content = document_samples.exr()
    last = document_samples.SIDE - 1
    return content.replace(struct.pack("<iiii", 0, 0, last, last), struct.pack("<iiii", 0, 0, side - 1, side - 1))


def svg(body: bytes) -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg">' + body + b"</svg>"


def laughs() -> bytes:
    entities = b"".join(b'<!ENTITY a%d "%s">' % (at + 1, b"&a%d;" % at * 10) for at in range(9))
    return b'<!DOCTYPE svg [<!ENTITY a0 "ha">' + entities + b"]>" + svg(b"<text>&a9;</text>")


def three_mf(body: bytes) -> bytes:
    buffer = io.BytesIO(model_files.three_mf())
    model = b'<model xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02">' + body
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as members:
        members.writestr("3D/second.model", model)
    return buffer.getvalue()


def spz(size: int) -> bytes:
    """Pack the header and about `size` zeros. The checksum is wrong, but nothing reads as far as that."""
    head = zlib.compressobj(9, wbits=-15)
    header = head.compress(struct.pack("<4sIIBBBB", b"NGSP", 2, size // 19, 0, 12, 0, 0))
    gzip_header = b"\x1f\x8b\x08" + bytes(7)
    return gzip_header + header + head.flush(zlib.Z_FULL_FLUSH) + zeros(size)[2:-4] + bytes(8)


def _fbx(children: bytes) -> bytes:
    return b"Kaydara FBX Binary  \0\x1a\0" + struct.pack("<I", 7400) + children + bytes(13)


def fbx_of_zeros(size: int, arrays: int) -> bytes:
    packed = zeros(size)
    field = b"b" + struct.pack("<III", size, 1, len(packed)) + packed
    content, at = b"", 27
    for _ in range(arrays):
        end = at + 13 + 7 + len(field)
        content += struct.pack("<IIIB", end, 1, len(field), 7) + b"Objects" + field
        at = end
    return _fbx(content)


def nested_fbx(depth: int) -> bytes:
    header = 13 + 7
    inner = 13 * depth
    end = 27 + header * depth + inner
    nodes = b"".join(struct.pack("<IIIB", end - 13 * at, 0, 0, 7) + b"Objects" for at in range(depth))
    return _fbx(nodes + bytes(inner))


def npy(count: int) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


def safetensors(size: int) -> bytes:
    return struct.pack("<Q", size) + b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
