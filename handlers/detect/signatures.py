# ruff: noqa: PLR2004 - binary formats consist of numbers; each check names the standard that defines them
"""Our own signatures: one check for each format, in the order of CHECKS."""

import re
import struct
from collections.abc import Callable
from typing import Final

from handlers.detect import models, refused, streams, text
from handlers.detect.magic_numbers import by_magic_number
from handlers.detect.zip_types import zip_type

HEAD_BYTES: Final = 4096
"""How many bytes at the beginning of a file suffice for detection, except for text that begins with long comments."""
UNKNOWN: Final = "application/octet-stream"
"""The type of a file that is not recognized, or whose container is recognized and its content is not stored."""
AVIF_BRANDS: Final = {b"avif", b"avis"}
HEIC_BRANDS: Final = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
STILL_BRANDS: Final = {b"mif1", b"mif2", b"msf1", b"miaf"}
"""Brands of still images in ISO base media files, for any codec."""
MP4_BRANDS: Final = {b"isom", b"avc1", b"dash", b"M4V ", b"M4VH", b"M4VP", b"f4v ", b"MSNV"}
MAJOR_BRANDS: Final = {
    b"qt  ": "video/quicktime",
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "audio/mp4"),
    **dict.fromkeys((b"3gp", b"3gr", b"3gs", b"3ge", b"3gg"), "video/3gpp"),
}
"""Types by their major brand, or its first three characters."""
GLTF_KEYS: Final = re.compile(
    rb'"(asset|accessors|bufferViews|buffers|meshes|nodes|scenes|scene|materials|componentType|byteLength)"\s*:'
)
OBJ_KEYWORDS: Final = frozenset(
    b"v vn vt vp f l p o g s mg mtllib usemtl usemap maplib cstype deg curv curv2 surf parm trim hole scrv sp end con "
    b"bmat step bevel c_interp d_interp lod shadow_obj trace_obj ctech stech call csh".split()
)


def by_signature(head: bytes) -> str | None:
    """Return the content type of the first signature that matches (perhaps UNKNOWN), or None if none matches."""
    return next((name for check in CHECKS if (name := check(head)) is not None), None)


def _safetensors(head: bytes) -> str | None:
    """Detect safetensors: the length of a JSON header in eight bytes, then the header.

    This check comes first, because the length may look like another format's magic number.
    """
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 100_000_000:  # the format's own limit
        return "application/x-safetensors"
    return None


def _iso_media(head: bytes) -> str | None:
    """Detect the formats of the MP4 family by their brands (ISO/IEC 14496-12, 4.3)."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, end, 4))}
    if brands & AVIF_BRANDS and major in AVIF_BRANDS | STILL_BRANDS:
        return "image/avif"
    if brands & HEIC_BRANDS and major in HEIC_BRANDS | STILL_BRANDS:
        return "image/heic"
    is_mp4 = major[:3] in {b"iso", b"mp4"} or major in MP4_BRANDS
    return MAJOR_BRANDS.get(major) or MAJOR_BRANDS.get(major[:3]) or ("video/mp4" if is_mp4 else None)


def _matroska(head: bytes) -> str | None:
    """Distinguish WebM from Matroska by the document type (RFC 8794, 11.2.4; element 0x4282)."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    document_type = re.search(rb"\x42\x82.{1,8}?(webm|matroska)", head[:256], re.DOTALL)
    if document_type is None:
        return UNKNOWN
    return "video/webm" if document_type[1] == b"webm" else "video/x-matroska"


def _ogg(head: bytes) -> str | None:
    """Detect audio in an Ogg container; Theora video is not stored (RFC 3533, RFC 5334)."""
    if not head.startswith(b"OggS"):
        return None
    first_packet = head[28:44]
    audio = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
    return "audio/ogg" if first_packet.startswith(audio) else UNKNOWN


def _id3_audio(head: bytes) -> str | None:
    """Detect the format after an ID3 tag: usually MP3, rarely AAC or FLAC.

    The tag's size has 7 bits in each byte (ID3v2.4, 3.1).
    """
    if head[:3] != b"ID3" or len(head) < 10:
        return None
    size = 0
    for byte in head[6:10]:
        size = size << 7 | (byte & 0x7F)
    after = head[10 + size :]
    if after.startswith(b"fLaC"):
        return "audio/flac"
    is_adts = len(after) > 1 and after[0] == 0xFF and after[1] & 0xF6 == 0xF0
    return "audio/aac" if is_adts else "audio/mpeg"


def _mpeg_audio(head: bytes) -> str | None:
    """Detect MP3 without a tag by a frame header whose fields are all valid (ISO/IEC 11172-3, 2.4.2.3).

    Zeros may come first; then the first two bytes of the header must occur again, as those of the next frame.
    """
    is_padded = head.startswith(b"\0")
    head = head.lstrip(b"\0")
    if len(head) < 4 or (is_padded and head.find(head[:2], 4) < 0):
        return None
    (header,) = struct.unpack(">I", head[:4])
    sync, version, layer = header >> 21, header >> 19 & 3, header >> 17 & 3
    bitrate, rate = header >> 12 & 15, header >> 10 & 3
    is_layer_3 = sync == 0x7FF and version != 1 and layer == 1 and 0 < bitrate < 15 and rate != 3
    return "audio/mpeg" if is_layer_3 else None


def _glb(head: bytes) -> str | None:
    """Detect binary glTF 2.0 (section 4.4)."""
    if head[:4] != b"glTF":
        return None
    return "model/gltf-binary" if head[4:8] == b"\x02\x00\x00\x00" else UNKNOWN


def _gltf(head: bytes) -> str | None:
    """Detect a JSON object with at least two of glTF's keys. The required one, `asset`, may be beyond these bytes."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith(b"{") or b"\0" in text:
        return None
    return "model/gltf+json" if len(set(GLTF_KEYS.findall(text))) >= 2 else None


def _ply(head: bytes) -> str | None:
    """Detect the Stanford polygon format: `ply`, then a format line, with comments allowed in between."""
    if not re.match(rb"ply[ \t]*\r?[\n\r]", head):
        return None
    has_format = re.search(rb"^format (ascii|binary_little_endian|binary_big_endian) 1\.0", head, re.MULTILINE)
    return "model/ply" if has_format else None


def _obj(head: bytes) -> str | None:
    """Detect Wavefront OBJ: every line begins with one of its keywords; one is a vertex, or the first is `mtllib`."""
    if b"\0" in head or head.startswith(b"#!"):  # `#` begins a comment in OBJ, but `#!` begins a script
        return None
    lines = head.removeprefix(b"\xef\xbb\xbf").replace(b"\\\r\n", b"").replace(b"\\\n", b"").splitlines()
    if len(lines) > 1 and not head.endswith((b"\n", b"\r")):
        lines.pop()  # the last line may be incomplete
    words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith(b"#")]
    if any(line[0] not in OBJ_KEYWORDS for line in words):
        return None
    has_vertex = any(line[0] == b"v" and len(line) >= 4 and _are_numbers(line[1:]) for line in words)  # x y z
    return "model/obj" if has_vertex or (words and words[0][0] == b"mtllib") else None


def _are_numbers(words: list[bytes]) -> bool:
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


CHECKS: Final[tuple[Callable[[bytes], str | None], ...]] = (
    _safetensors,
    by_magic_number,
    _iso_media,
    _matroska,
    _ogg,
    _id3_audio,
    _mpeg_audio,
    _glb,
    _gltf,
    _ply,
    zip_type,
    _obj,
    models.fbx,
    models.spz,
    models.mtl,
    streams.transport_stream,
    streams.bitmap,
    refused.markup_or_program_type,
    models.stl,
    text.json,
    text.subtitles,
    text.plain,
    streams.tga,
    models.splat,
)
"""The checks in the order in which they run. The first type that is found counts, so the weakest checks come last."""
