"""KEEP_PROVENANCE: files with a C2PA manifest are kept unchanged; of XMP, only the provenance statement is copied."""

import io
import struct
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree as ET

import numpy as np
import pillow_heif
import pytest
from PIL import Image, PngImagePlugin

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.media.metadata import provenance
from handlers.settings import MediaSettings
from schemas.jobs import Profile
from tests.fidelity.pictures import chart, to_uint8
from tests.fidelity.png_files import chunk

KEEP = Profile(keep_provenance=True)
MADE_BY_AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PLACE = "48,8.5N"
ELEMENTS = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/">
<exif:GPSLatitude>{PLACE}</exif:GPSLatitude><e:DigitalSourceType>{MADE_BY_AI}</e:DigitalSourceType>
<photoshop:Credit>Made with &lt;AI&gt; &amp; care</photoshop:Credit></rdf:Description></rdf:RDF></x:xmpmeta>"""
ATTRIBUTES = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" exif:GPSLatitude="{PLACE}"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" Iptc4xmpExt:DigitalSourceType="{MADE_BY_AI}"/></rdf:RDF></x:xmpmeta>"""
RESOURCE = f'<rdf:Description exif:GPSLatitude="{PLACE}"><Iptc4xmpExt:DigitalSourceType rdf:resource="{MADE_BY_AI}"/>'
KINDS = ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"]


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


STORE = box(
    b"jumb", box(b"jumd", UUID("63327061-0011-0010-8000-00AA00389B71").bytes + b"\x03c2pa\0") + box(b"jumb", b"")
)
"""An empty manifest store (C2PA 2.1, 11.1.4), recognised by its boxes; Outlast does not verify signatures."""


def saved(kind: str, xmp: str = "", quality: int = 97) -> bytes:
    image, buffer = Image.fromarray(to_uint8(chart())), io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(buffer, quality=quality, chroma=444, xmp=xmp.encode() or None)
    elif kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", xmp)
        texts.add_text("parameters", "a prompt of mine")
        image.save(buffer, kind, pnginfo=texts)
    else:
        image.save(buffer, kind, quality=quality, **({"xmp": xmp.encode()} if xmp else {}))
    return buffer.getvalue()


def signed(kind: str) -> bytes:
    """Return an image with the manifest at the position defined by C2PA 2.1, A.3."""
    content = saved(kind)
    if kind == "JPEG":
        body = b"JP\x00\x01\x00\x00\x00\x01" + STORE
        return content[:2] + struct.pack(">2sH", b"\xff\xeb", len(body) + 2) + body + content[2:]
    if kind == "PNG":
        return content[:33] + chunk(b"caBX", STORE) + content[33:]
    if kind == "WEBP":
        longer = content[8:] + b"C2PA" + struct.pack("<I", len(STORE)) + STORE + bytes(len(STORE) % 2)
        return b"RIFF" + struct.pack("<I", len(longer)) + longer
    manifest = b"\0\0\0\0manifest\0" + bytes(8) + STORE
    return content + box(b"uuid", UUID("d8fec3d6-1b0e-483c-9297-5828877ec481").bytes + manifest)


def signed_apng() -> bytes:
    """Return an APNG with a manifest."""
    frames = [Image.fromarray(np.roll(to_uint8(chart()), 9 * at, 1)) for at in range(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()[:33] + chunk(b"caBX", STORE) + buffer.getvalue()[33:]


async def stored(codec: Codec, folder: Path, content: bytes, profile: Profile) -> bytes:
    source = folder / "source"
    source.write_bytes(content)
    made = await codec.prepare(source, folder / "prepared", detect(content).mime_type, profile)
    return made.path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_signed_file_is_kept_byte_for_byte(codec: Codec, tmp_path: Path, kind: str) -> None:
    content = signed(kind)
    assert await stored(codec, tmp_path, content, KEEP) == content


async def test_a_signed_apng_is_kept_byte_for_byte(codec: Codec, tmp_path: Path) -> None:
    assert await stored(codec, tmp_path, signed_apng(), KEEP) == signed_apng()
    assert b"c2pa" not in await stored(codec, tmp_path, signed_apng(), Profile())


@pytest.mark.parametrize("profile", [Profile(), Profile(strip_metadata=False)], ids=["strip", "meta"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_reencoded_image_has_no_manifest(codec: Codec, tmp_path: Path, kind: str, profile: Profile) -> None:
    written = await stored(codec, tmp_path, signed(kind), profile)
    assert b"c2pa" not in written
    assert detect(written).mime_type == "image/jpeg"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_image_without_a_manifest_is_compressed(codec: Codec, tmp_path: Path, kind: str) -> None:
    content = saved(kind)
    written = await stored(codec, tmp_path, content, KEEP)
    assert len(written) < len(content)
    assert detect(written).mime_type == "image/jpeg"


@pytest.mark.parametrize("xmp", [ELEMENTS, ATTRIBUTES], ids=["elements", "attributes"])
@pytest.mark.parametrize("kind", KINDS)
async def test_only_the_provenance_statement_is_copied(codec: Codec, tmp_path: Path, kind: str, xmp: str) -> None:
    content = saved(kind, xmp)
    written = await stored(codec, tmp_path, content, KEEP)
    assert MADE_BY_AI.encode() in written
    assert PLACE.encode() not in written
    assert b"prompt" not in written
    assert (b"Made with &lt;AI&gt; &amp; care" in written) == (xmp == ELEMENTS)
    with Image.open(io.BytesIO(written)) as image:
        described = ET.fromstring(image.info["xmp"]).find("*/*")  # noqa: S314 - written by this test
    assert described is not None
    assert described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == MADE_BY_AI
    without = await stored(codec, tmp_path, content, Profile())
    assert MADE_BY_AI.encode() not in without


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "HEIF"])
async def test_a_kept_original_keeps_the_provenance_statement(codec: Codec, tmp_path: Path, kind: str) -> None:
    content = saved(kind, ELEMENTS, quality=20)
    kept = await stored(codec, tmp_path, content, KEEP)
    assert detect(kept).mime_type == detect(content).mime_type
    assert MADE_BY_AI.encode() in kept
    assert PLACE.encode() not in kept


def test_the_statement_is_read_from_every_xmp_form() -> None:
    assert provenance.extract_statement(RESOURCE.encode()) == provenance.extract_statement(ATTRIBUTES.encode())
    assert provenance.extract_statement(b"<x:xmpmeta><a:CreditLine>no</a:CreditLine>") is None
    assert provenance.extract_statement(b"\xff\xfe") is None
    assert provenance.extract_statement(None) is None


def test_random_bytes_are_not_a_manifest(tmp_path: Path) -> None:
    for kind in KINDS:
        source = tmp_path / kind
        source.write_bytes(saved(kind) + np.random.default_rng(1).bytes(100_000) + b"c2pa")
        assert not provenance.has_manifest(source, detect(source.read_bytes()).mime_type)


def test_the_profile_key_changes_only_with_keep_provenance() -> None:
    assert MediaSettings(_env_file=None).profile.key == "auto-q85-strip"
    assert MediaSettings(_env_file=None, keep_provenance=True).profile.key == "auto-q85-strip-provenance"
    assert Profile.model_validate({"format": "auto", "quality": 85, "strip_metadata": False}).key == "auto-q85-meta"
