"""Removal of metadata from originals that are kept: what is promised is removed, and hostile files end soon."""

import io
import struct
from pathlib import Path

from PIL import Image, PngImagePlugin

from handlers.media.metadata import provenance, strip_metadata
from handlers.media.metadata.scrub import remove_metadata
from schemas.jobs import Profile

CREDIT = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description photoshop:Credit="AI"/></x:xmpmeta>'
EXIF = 0x8769


def tiff_with_exif(pointers: list[int]) -> bytes:
    """Return a TIFF of 8 x 8 pixels whose EXIF directory has an EXIF tag for each of the offsets.

    The EXIF directory is at offset 134, and the page's directory at offset 8.
    """
    exif = struct.pack("<H", len(pointers)) + b"".join(struct.pack("<HHII", EXIF, 4, 1, at) for at in pointers)
    pixels = 134 + len(exif) + 4
    short = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1)]
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in short]
    long = [(273, pixels), (277, 1), (278, 8), (279, 64), (EXIF, 134)]
    entries += [struct.pack("<HHII", tag, 4, 1, value) for tag, value in long]
    page = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + page + exif + bytes(4) + bytes(range(64))


def test_private_text_is_removed_even_if_the_statement_makes_the_file_larger(tmp_path: Path) -> None:
    texts, source = PngImagePlugin.PngInfo(), tmp_path / "source"
    texts.add_text("prompt", "my secret prompt")
    texts.add_itxt("XML:com.adobe.xmp", CREDIT.decode())
    Image.effect_noise((32, 32), 50).save(source, "PNG", pnginfo=texts)
    kept = strip_metadata(source, tmp_path / "target", "image/png", Profile(keep_provenance=True), CREDIT)
    assert kept.stat().st_size > source.stat().st_size
    assert b"secret" not in kept.read_bytes()
    assert b'photoshop:Credit="AI"' in kept.read_bytes()


def test_an_exif_directory_that_refers_to_itself_is_removed_once() -> None:
    content = tiff_with_exif([134])
    assert remove_metadata(tiff_with_exif([]), "image/tiff", None) is not None
    cleaned = remove_metadata(content, "image/tiff", None)
    assert cleaned is not None
    assert cleaned[134:150] == bytes(16)
    with Image.open(io.BytesIO(cleaned)) as image:
        assert image.tobytes() == bytes(range(64))


def test_an_exif_tag_that_refers_to_the_page_leaves_its_pixels() -> None:
    cleaned = remove_metadata(tiff_with_exif([8]), "image/tiff", None)
    assert cleaned is not None
    with Image.open(io.BytesIO(cleaned)) as image:
        assert image.tobytes() == bytes(range(64))


def test_many_exif_directories_inside_each_other_end_soon() -> None:
    depth, at = 5000, 134
    chain = b"".join(struct.pack("<HHHIII", 1, EXIF, 4, 1, at + 18 * (n + 1), 0) for n in range(depth))
    content = tiff_with_exif([])[:134] + chain + bytes(100)
    assert remove_metadata(content, "image/tiff", None) is not None


def test_a_statement_with_an_apostrophe_or_quotation_mark_is_kept() -> None:
    element = '<photoshop:Credit>Made with Google\'s "AI"</photoshop:Credit>'
    statement = provenance.extract_statement(element.encode())
    assert statement is not None
    assert b"Google&#x27;s &quot;AI&quot;" in statement
    for attribute in ('Credit="Google\'s"', "Credit='Google&apos;s'"):
        statement = provenance.extract_statement(f"<rdf:Description photoshop:{attribute}/>".encode())
        assert statement is not None
        assert b"Google&#x27;s" in statement


def test_the_search_for_statements_is_linear() -> None:
    """A quadratic one would take longer than pytest allows a test."""
    for hostile in (b"a" * 1_000_000, b"<a:Credit" * 100_000, b"a:Credit" + b" " * 1_000_000, b"<" * 1_000_000):
        assert provenance.extract_statement(hostile) is None
