"""Metadata: private metadata is removed, whether the image is re-encoded or the original is kept."""

import io
import re
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.media.metadata import strip_metadata
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity.pictures import chart, to_uint8
from tests.fidelity.profiles import ADOBE_RGB, profile
from tests.fidelity.rows import frames_of

SECRET = b"Secret Street 7"
PLACE = b"48/1,51/1"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" xmlns:exif="http://ns.adobe.com/'
    b'exif/1.0/" exif:GPSLatitude="' + PLACE + b'"/></rdf:RDF></x:xmpmeta>'
)
KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"]
TURNED = 6


def tags(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x112] = orientation
    found[0x10E] = SECRET.decode()
    found.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + SECRET
    found.get_ifd(0x8825)[1] = "N"
    found.get_ifd(0x8825)[0x1B] = SECRET
    return found


def private(kind: str, orientation: int = TURNED, quality: int = 30) -> bytes:
    """Return a low-quality image, which would grow if re-encoded, with the metadata that cameras add."""
    image, buffer = Image.fromarray(to_uint8(chart())), io.BytesIO()
    options: dict[str, object] = {"quality": quality, "exif": tags(orientation), "icc_profile": profile(2.2, ADOBE_RGB)}
    if kind == "PNG":
        image = image.quantize(4)
        texts = PngImagePlugin.PngInfo()
        texts.add_text("parameters", SECRET.decode())
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = texts
    elif kind == "TIFF":
        image = image.convert("L").point(lambda value: value // 64 * 64)
        options = {"compression": "tiff_lzw", "exif": tags(orientation), "tiffinfo": {0x2BC: XMP, 0x112: orientation}}
    elif kind == "HEIF":
        pillow_heif.from_pillow(image).save(buffer, quality=quality, exif=tags(orientation).tobytes(), xmp=XMP)
        return buffer.getvalue()
    else:
        options["xmp"] = XMP
    image.save(buffer, kind, **options)
    tail = b"tail " + SECRET if kind in {"JPEG", "PNG"} else b""
    return buffer.getvalue() + tail


def upright(content: bytes) -> np.ndarray:
    if content[4:8] == b"ftyp" and b"heic" in content[8:40]:
        file = pillow_heif.open_heif(io.BytesIO(content))
        return np.asarray(file[0].to_pillow())
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def has_private_data(content: bytes) -> bool:
    return SECRET in content or PLACE in content or b"N\0" + SECRET in content


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kept_original_loses_private_metadata_and_no_pixel(codec: Codec, tmp_path: Path, kind: str) -> None:
    content = private(kind)
    assert has_private_data(content)
    source = tmp_path / "source"
    source.write_bytes(content)
    found = detect(content).mime_type
    prepared = await codec.prepare(source, tmp_path / "prepared", found, Profile())
    stored = prepared.path.read_bytes()
    assert prepared.content_type == found
    assert not has_private_data(stored)
    assert prepared.file_size == len(stored) <= len(content)
    assert np.array_equal(upright(stored), upright(content))  # the orientation is kept
    assert source.read_bytes() == content
    codec.check(prepared.path, found)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_a_kept_original_keeps_its_profile(codec: Codec, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(private(kind))
    prepared = await codec.prepare(source, tmp_path / "prepared", detect(source.read_bytes()).mime_type, Profile())
    with Image.open(prepared.path) as image:
        assert image.info["icc_profile"] == profile(2.2, ADOBE_RGB)
        assert list(image.getexif()) == [0x112]


@pytest.mark.parametrize("profile_", [Profile(strip_metadata=False), Profile(format=ImageFormat.KEEP)])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_kept_original_is_unchanged_without_stripping(
    codec: Codec, tmp_path: Path, kind: str, profile_: Profile
) -> None:
    content = private(kind)
    source = tmp_path / "source"
    source.write_bytes(content)
    prepared = await codec.prepare(source, tmp_path / "prepared", detect(content).mime_type, profile_)
    assert content.startswith(prepared.path.read_bytes())
    assert len(content) - prepared.file_size in {0, len(b"tail ") + len(SECRET)}  # bytes after the image are removed


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize("image_format", [ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.AVIF])
@pytest.mark.parametrize("strip", [True, False])
async def test_a_reencoded_image_has_private_metadata_only_without_stripping(
    codec: Codec, tmp_path: Path, kind: str, image_format: ImageFormat, *, strip: bool
) -> None:
    source = tmp_path / "source"
    source.write_bytes(private(kind, quality=98))
    prepared = await codec.prepare(
        source,
        tmp_path / "prepared",
        detect(source.read_bytes()).mime_type,
        Profile(format=image_format, quality=60, strip_metadata=strip),
    )
    stored = prepared.path.read_bytes()
    assert prepared.content_type == f"image/{image_format}"
    assert has_private_data(stored) != strip
    with Image.open(io.BytesIO(stored)) as image:
        assert image.getexif().get(0x112, 1) == 1
        assert not image.info.get("icc_profile")
    assert not re.search(rb'tiff:Orientation(="|>)[2-8]', stored)


def test_every_orientation_is_kept_when_metadata_is_removed(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        source = tmp_path / "source"
        source.write_bytes(private("JPEG", orientation))
        kept = strip_metadata(source, tmp_path / "target", "image/jpeg", Profile(), None)
        assert np.array_equal(upright(kept.read_bytes()), upright(source.read_bytes()))
        assert not has_private_data(kept.read_bytes())


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}])
def test_metadata_is_removed_from_every_kind_of_jpeg(tmp_path: Path, options: dict[str, object]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(chart())).save(buffer, "JPEG", exif=tags(1), comment=SECRET, **options)
    source = tmp_path / "source"
    source.write_bytes(buffer.getvalue())
    kept = strip_metadata(source, tmp_path / "target", "image/jpeg", Profile(), None).read_bytes()
    assert not has_private_data(kept)
    assert np.array_equal(frames_of(kept)[0], frames_of(buffer.getvalue())[0])
