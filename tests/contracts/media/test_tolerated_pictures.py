"""Pictures with errors that every viewer ignores: they are stored, without the error if it would confuse a decoder."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from handlers.codec.codec import Codec
from handlers.errors import FileCorruptedError
from handlers.media import Prepared
from handlers.media.formats import jpeg
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fuzz.strict_decoders import rejection_reason
from tests.hostile.crafted_files import png_chunk
from tests.media_samples import apng, media_sample

pytestmark = pytest.mark.slow

AUTO, KEEP = Profile(), Profile(format=ImageFormat.KEEP)
LATIN_1 = "Größe".encode("latin-1")
TURNED = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, 6, 0, 0)
CHUNKS = {
    "tEXt": b"Title\0a",
    "iTXt": b"Title\0\0\0\0\0a",
    "tIME": bytes([7, 230, 1, 1, 1, 1, 1]),
    "gAMA": struct.pack(">I", 100_000),
    "iCCP": b"a\0\0" + zlib.compress(b"no profile"),
    "eXIf": TURNED,
    "vpAg": bytes(9),
}


def with_chunks(*chunks: bytes) -> bytes:
    """Return the PNG sample with chunks after its header."""
    content = media_sample("png").content
    return content[:33] + b"".join(chunks) + content[33:]


def damaged(kind: str) -> bytes:
    chunk = png_chunk(kind.encode(), CHUNKS[kind])
    return chunk[:-1] + bytes([chunk[-1] ^ 0x55])


def with_bytes_after(marker: int, extra: bytes) -> bytes:
    """Return the JPEG sample with bytes after its first segment of a kind."""
    content = media_sample("jpeg").content
    end = next(segment.end for segment in jpeg.segments(content) if segment.kind == bytes([marker]))
    return content[:end] + extra + content[end:]


def saved_by_pillow() -> bytearray:
    """Return a JPEG with a JFIF header, which libvips does not write beside EXIF."""
    output = io.BytesIO()
    Image.open(io.BytesIO(media_sample("jpeg").content)).save(output, "JPEG", quality=95)
    return bytearray(output.getvalue())


def of_jfif_2() -> bytes:
    content = saved_by_pillow()
    content[content.index(b"JFIF\0") + 5] = 2
    return bytes(content)


def without_last_coefficient() -> bytes:
    content = saved_by_pillow()
    scan = next(segment for segment in jpeg.segments(bytes(content)) if segment.kind == jpeg.START_OF_SCAN)
    content[scan.end - 2] = 0
    return bytes(content)


def with_list_of_missing_pictures() -> bytes:
    """Return a JPEG whose list of pictures has one beyond the end of the file."""
    index = b"MPF\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0xB002, 7, 32, 26) + bytes(4)
    index += struct.pack("<IIIHH", 0x030000, 2000, 0, 0, 0) + struct.pack("<IIIHH", 0, 5000, 9000, 0, 0)
    return with_bytes_after(0xE1, b"\xff\xe2" + (len(index) + 2).to_bytes(2, "big") + index)


def comment(length: int) -> bytes:
    return b"\xff\xfe" + length.to_bytes(2, "big") + b"eight ch"


GIF, MOVING = media_sample("gif").content, media_sample("gif, animated").content
TOLERATED = {
    "png with a keyword in Latin-1": ("image/png", with_chunks(png_chunk(b"tEXt", LATIN_1 + b"\0a"))),
    "png with a packed text of a keyword in Latin-1": (
        "image/png",
        with_chunks(png_chunk(b"zTXt", LATIN_1 + b"\0\0" + zlib.compress(LATIN_1))),
    ),
    **{f"png with a wrong checksum of {kind}": ("image/png", with_chunks(damaged(kind))) for kind in CHUNKS},
    "gif without trailer": ("image/gif", GIF[:-1]),
    "gif with zeros before its trailer": ("image/gif", GIF[:-1] + bytes(9) + b";"),
    "gif with zeros instead of its trailer": ("image/gif", GIF[:-1] + bytes(2)),
    "gif, animated, without trailer": ("image/gif", MOVING[:-1]),
    "gif, animated, with zeros before its trailer": ("image/gif", MOVING[:-1] + bytes(9) + b";"),
    "jpeg with zeros between segments": ("image/jpeg", with_bytes_after(0xDB, bytes(9))),
    "jpeg with bytes between segments": ("image/jpeg", with_bytes_after(0xC4, b"\xff\0stray")),
    "jpeg with a comment longer than its length": ("image/jpeg", with_bytes_after(0xDB, comment(5))),
    "jpeg with a comment of no length": ("image/jpeg", with_bytes_after(0xDB, comment(0))),
    "jpeg with the first coefficients only, as it says": ("image/jpeg", without_last_coefficient()),
    "jpeg of JFIF 2.01": ("image/jpeg", of_jfif_2()),
    "jpeg without a listed picture": ("image/jpeg", with_list_of_missing_pictures()),
}
LACKING = {
    "png with a wrong checksum of its pixels": (
        "image/png",
        media_sample("png").content.replace(b"IEND", b"IENd"),
    ),
    "apng with a damaged control chunk": ("image/png", apng().replace(b"acTL", b"acTl")),
    "gif that ends before a frame": ("image/gif", MOVING[: MOVING.rindex(b"\x21\xf9") + 8]),
    "gif without a frame": ("image/gif", GIF[: GIF.index(b"\x2c", 13 + 768)]),
    "jpeg without a table": ("image/jpeg", with_bytes_after(0xDB, comment(12))),
}


async def prepare(codec: Codec, folder: Path, content: bytes, content_type: str, profile: Profile) -> Prepared:
    (folder / "source").write_bytes(content)
    return await codec.prepare(folder / "source", folder / "out", content_type, profile)


@pytest.mark.parametrize("profile", [AUTO, KEEP], ids=["auto", "keep"])
@pytest.mark.parametrize("case", TOLERATED)
async def test_picture_that_every_viewer_shows_is_stored(
    codec: Codec, tmp_path: Path, case: str, profile: Profile
) -> None:
    content_type, content = TOLERATED[case]
    found = await prepare(codec, tmp_path, content, content_type, profile)
    assert (found.width, found.height, found.frames) == (80, 80, 4 if "animated" in case else 1)
    assert rejection_reason(found.path, found.content_type) is None
    assert found.file_size <= len(content)
    codec.check(found.path, found.content_type)
    if profile is KEEP:
        assert found.content_type == content_type


async def test_damaged_colours_and_orientation_are_ignored_as_viewers_do(codec: Codec, tmp_path: Path) -> None:
    plain = await prepare(codec, tmp_path, media_sample("png").content, "image/png", AUTO)
    expected = plain.path.read_bytes()
    content = with_chunks(damaged("gAMA"), damaged("iCCP"), damaged("eXIf"))
    found = await prepare(codec, tmp_path, content, "image/png", AUTO)
    assert found.path.read_bytes() == expected


@pytest.mark.parametrize("profile", [AUTO, KEEP], ids=["auto", "keep"])
@pytest.mark.parametrize("case", LACKING)
async def test_picture_that_lacks_data_is_corrupted(codec: Codec, tmp_path: Path, case: str, profile: Profile) -> None:
    content_type, content = LACKING[case]
    with pytest.raises(FileCorruptedError):
        await prepare(codec, tmp_path, content, content_type, profile)
