"""Metadata of JPEG 2000 and PSD, and of animations and TIFF that libvips does not decode: what goes, and what stays."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from handlers.codec.codec import Codec
from handlers.media.metadata.scrub import remove_metadata
from schemas.formats import ImageFormat
from schemas.jobs import Profile

PLACE = b"52,31N"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="Made with AI" '
    b'exif:GPSLatitude="' + PLACE + b'" xmlns:exif="http://ns.adobe.com/exif/1.0/"/></rdf:RDF></x:xmpmeta>'
) + b" " * 300
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
JP2, PSD = "image/jp2", "image/vnd.adobe.photoshop"


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x112] = 6
    tags[0x10E] = "Secret Street 7"
    return tags.tobytes().removeprefix(b"Exif\0\0")


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def jp2(depth: int) -> bytes:
    """Return noise of 8 or 16 bits, with EXIF, XMP and an XML box before the pixels."""
    samples = np.random.default_rng(1).integers(0, 1 << depth, (64, 64)).astype(f"uint{depth}")
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "JPEG2000")
    content = buffer.getvalue()
    at = content.index(b"jp2c") - 4
    private = box(b"uuid", XMP_UUID + XMP) + box(b"uuid", b"JpgTiffExif->JP2" + exif()) + box(b"xml ", PLACE)
    return content[:at] + private + content[at:]


def psd(depth: int) -> bytes:
    """Return a grey picture with XMP, EXIF and IPTC; instead of 16 bits, which Pillow cannot decode, CMYK."""

    def resource(number: int, body: bytes) -> bytes:
        return struct.pack(">4sHHI", b"8BIM", number, 0, len(body)) + body + bytes(len(body) % 2)

    section = resource(1060, XMP) + resource(1028, PLACE + b"!") + resource(1058, exif()) + resource(1005, bytes(16))
    channels, mode = (4, 4) if depth == 16 else (1, 1)
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, 64, 64, 8, mode) + bytes(4)
    pixels = np.random.default_rng(1).integers(0, 256, 64 * 64 * channels).astype("uint8").tobytes()
    return head + struct.pack(">I", len(section)) + section + bytes(4) + b"\0\0" + pixels


MAKERS = {JP2: jp2, PSD: psd}


async def stored(codec: Codec, folder: Path, content: bytes, kind: str, profile: Profile) -> tuple[str, bytes]:
    (folder / "source").write_bytes(content)
    prepared = await codec.prepare(folder / "source", folder / "prepared", kind, profile)
    return prepared.content_type, prepared.path.read_bytes()


@pytest.mark.parametrize("provenance", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
async def test_a_kept_still_loses_private_metadata(
    codec: Codec, tmp_path: Path, kind: str, *, provenance: bool
) -> None:
    content = MAKERS[kind](16)
    found, written = await stored(codec, tmp_path, content, kind, Profile(keep_provenance=provenance))
    assert found == kind
    assert PLACE not in written
    assert b"Secret" not in written
    assert (b"Made with AI" in written) == provenance
    codec.check(tmp_path / "prepared", kind)
    if kind == JP2:
        with Image.open(io.BytesIO(written)) as after, Image.open(io.BytesIO(content)) as before:
            assert after.tobytes() == before.tobytes()
    else:
        assert written.endswith(content[-64 * 64 * 4 :])


@pytest.mark.parametrize("kind", MAKERS)
async def test_an_encoded_still_has_the_metadata_that_is_to_stay(codec: Codec, tmp_path: Path, kind: str) -> None:
    for strip, provenance in ((True, False), (True, True), (False, False)):
        profile = Profile(format=ImageFormat.WEBP, quality=40, strip_metadata=strip, keep_provenance=provenance)
        found, written = await stored(codec, tmp_path, MAKERS[kind](8), kind, profile)
        assert found == "image/webp"
        assert (b"Made with AI" in written) == (provenance or not strip)
        assert (PLACE in written) != strip
        assert (b"Secret" in written) != strip
        with Image.open(io.BytesIO(written)) as image:
            assert image.getexif().get(0x112, 1) == 1


def test_a_uuid_box_with_a_length_of_64_bits_is_overwritten() -> None:
    private = struct.pack(">I4sQ", 1, b"uuid", 16 + 16 + len(PLACE)) + bytes(16) + PLACE
    for kind in ("image/avif", JP2):
        assert PLACE not in (remove_metadata(private, kind, None) or PLACE)


def test_damaged_image_resources_are_not_changed() -> None:
    content = psd(8)
    assert remove_metadata(content.replace(struct.pack(">H", 1060), b"\x04\x24\xff", 1), PSD, None) is None
    assert remove_metadata(content[:40], PSD, None) is None


@pytest.mark.parametrize("kind", ["image/png", "image/avif"])
async def test_a_kept_animation_keeps_the_statement(codec: Codec, tmp_path: Path, kind: str) -> None:
    frames = [Image.effect_noise((64, 64), 60).convert("RGB") for _ in range(2)]
    buffer, options = io.BytesIO(), {"save_all": True, "append_images": frames[1:], "duration": 100}
    if kind == "image/png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    frames[0].save(buffer, kind.removeprefix("image/"), **({"xmp": XMP} if kind == "image/avif" else {}), **options)
    for provenance in (False, True):
        profile = Profile(keep_provenance=provenance)
        found, written = await stored(codec, tmp_path, buffer.getvalue(), kind, profile)
        assert found == kind
        assert PLACE not in written
        assert (b"Made with AI" in written) == provenance


@pytest.mark.parametrize("mode", ["LAB", "RGB"])
async def test_a_tiff_that_libvips_does_not_decode_keeps_the_statement(codec: Codec, tmp_path: Path, mode: str) -> None:
    """CIELAB of 8 bits is kept because of its second page, and ZSTD because libvips does not support it."""
    picture, buffer = Image.merge(mode, [Image.effect_noise((64, 64), 60)] * 3), io.BytesIO()
    compression = "zstd" if mode == "RGB" else "tiff_adobe_deflate"
    tags: dict[int, object] = {0x2BC: XMP, 0x10E: PLACE.decode()}
    picture.save(buffer, "TIFF", compression=compression, tiffinfo=tags, save_all=True, append_images=[picture])
    for provenance in (False, True):
        profile = Profile(keep_provenance=provenance)
        found, written = await stored(codec, tmp_path, buffer.getvalue(), "image/tiff", profile)
        assert found == "image/tiff"
        assert PLACE not in written
        assert (b"Made with AI" in written) == provenance
