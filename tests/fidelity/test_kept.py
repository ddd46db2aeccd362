"""Originals that hold more than a converted image would: they are kept, with all of their data."""

import base64
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from deploy.local.samples.pictures import photo
from handlers.codec.codec import Codec
from handlers.media import Prepared
from handlers.media.formats import jpeg
from handlers.media.image.quality import jpeg as quality_of_jpeg
from handlers.media.image.quality import webp
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity.pictures import HEIGHT, WIDTH, chart, green_band, soft_disc, to_uint8
from tests.fidelity.rows import frames_of
from tests.fidelity.rows_animated import drifting
from tests.fidelity.rows_modern import saved, tags
from tests.fidelity.rows_tiff import tiff

pytestmark = pytest.mark.slow

GPS, MAKER = 0x8825, 0x10F
DEPTHS: dict[str, Callable[[], np.ndarray]] = {
    "grey float": lambda: green_band(chart()).astype(np.float32),
    "grey float in metres": lambda: (green_band(chart()) * 40).astype(np.float32),
    "grey of 32 bits": lambda: (green_band(chart()) * 10_000).astype(np.uint32),
    "grey with negative heights": lambda: (green_band(chart()) * 4000 - 2000).astype(np.int16),
    "RGB float brighter than white": lambda: (chart() * 3).astype(np.float32),
    "RGB float that is partly no number": lambda: np.where(chart() > 0.9, np.nan, chart()).astype(np.float32),
}


async def prepare(
    codec: Codec, folder: Path, content: bytes, content_type: str, profile: Profile | None = None
) -> Prepared:
    source = folder / "source"
    source.write_bytes(content)
    return await codec.prepare(source, folder / "prepared", content_type, profile or Profile())


@pytest.mark.parametrize("name", DEPTHS)
async def test_samples_that_8_bits_cannot_hold_are_kept(codec: Codec, tmp_path: Path, name: str) -> None:
    values = DEPTHS[name]()
    content = tiff(values, "rgb" if values.ndim == 3 else "minisblack")
    found = await prepare(codec, tmp_path, content, "image/tiff")
    assert (found.content_type, found.width, found.height) == ("image/tiff", WIDTH, HEIGHT)
    assert found.thumbhash
    np.testing.assert_array_equal(tifffile.imread(found.path), values)


async def test_a_fourth_channel_that_is_no_alpha_stays_one(codec: Codec, tmp_path: Path) -> None:
    values = np.dstack([to_uint8(chart()), to_uint8(soft_disc())])
    content = tiff(values, extrasamples=["unspecified"])
    found = await prepare(codec, tmp_path, content, "image/tiff")
    assert found.content_type == "image/tiff"
    np.testing.assert_array_equal(tifffile.imread(found.path), values)
    assert found.thumbhash is not None
    has_alpha = base64.b64decode(found.thumbhash)[2] >> 7
    assert not has_alpha


def stereo() -> bytes:
    """Return two pictures in one file, as a stereo camera writes them, with a place in the EXIF data of each."""
    pictures = [Image.fromarray(to_uint8(np.roll(chart(), shift, 1))) for shift in (0, 4)]
    for picture in pictures:
        exif = tags(1)
        exif.get_ifd(GPS)[1] = "N-SECRET"
        picture.encoderinfo = {"exif": exif.tobytes()}
    output = io.BytesIO()
    pictures[0].save(output, "MPO", save_all=True, append_images=pictures[1:], quality=98, **pictures[0].encoderinfo)
    return output.getvalue()


def gain_map() -> bytes:
    bright = pyvips.Image.new_from_memory(to_uint8(chart()).tobytes(), WIDTH, HEIGHT, 3, "uchar")
    return bytes(bright.copy(interpretation="srgb").colourspace("scrgb").uhdrsave_buffer(Q=98))


@pytest.mark.parametrize("requested", [ImageFormat.AUTO, ImageFormat.WEBP, ImageFormat.KEEP])
async def test_both_pictures_of_a_stereo_file_are_kept(codec: Codec, tmp_path: Path, requested: ImageFormat) -> None:
    content = stereo()
    assert content.count(b"N-SECRET") >= 1
    found = await prepare(codec, tmp_path, content, "image/jpeg", Profile(format=requested))
    stored = found.path.read_bytes()
    assert (found.content_type, len(stored), found.frames) == ("image/jpeg", len(content), 1)
    assert len(jpeg.other_pictures(stored)) == 1
    for one, other in zip(frames_of(content), frames_of(stored), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (b"N-SECRET" in stored) == (requested is ImageFormat.KEEP)


async def test_a_gain_map_is_kept(codec: Codec, tmp_path: Path) -> None:
    content = gain_map()
    found = await prepare(codec, tmp_path, content, "image/jpeg")
    assert found.content_type == "image/jpeg"
    before, after = (pyvips.Image.uhdrload_buffer(each) for each in (content, found.path.read_bytes()))
    assert after.get("vips-loader") == "uhdrload_buffer"
    assert (before - after).abs().max() == 0
    one, other = (pyvips.Image.jpegload_buffer(each.get("gainmap-data")) for each in (before, after))
    assert (one - other).abs().max() == 0


async def test_an_avif_with_a_gain_map_is_kept(codec: Codec, tmp_path: Path) -> None:
    """The EXIF item of the file is renamed to the one that applies a gain map."""
    exif = Image.Exif()
    exif[MAKER] = "a camera"
    plain = saved(Image.fromarray(to_uint8(chart())), "AVIF", quality=98, subsampling="4:4:4", exif=exif)
    at = plain.index(b"Exif", plain.index(b"iinf"))
    content = plain[:at] + b"tmap" + plain[at + 4 :]
    assert (await prepare(codec, tmp_path, plain, "image/avif")).content_type == "image/jpeg"
    found = await prepare(codec, tmp_path, content, "image/avif")
    assert (found.content_type, found.path.read_bytes()) == ("image/avif", content)


async def test_an_encoding_that_saves_little_is_not_stored(codec: Codec, tmp_path: Path) -> None:
    """The JPEG is padded with a profile, until a new one of a little less quality would save more than it did."""
    content = bytes(photo(300, grain=8).jpegsave_buffer(Q=85, keep="none"))
    profile = Profile(strip_metadata=False, quality=84)
    for padding, is_kept in ((0, True), (len(content) // 100, True), (len(content) // 8, False)):
        comment = bytes(padding)
        padded = content[:2] + b"\xff\xe2" + struct.pack(">H", len(comment) + 2) + comment + content[2:]
        found = await prepare(codec, tmp_path, padded, "image/jpeg", profile)
        assert (found.path.read_bytes() == padded) == is_kept


QUALITIES = [(50, 85, True), (84, 85, True), (85, 85, True), (86, 85, False), (95, 85, False), (75, 40, False)]


@pytest.mark.parametrize(("quality", "wanted", "is_kept"), QUALITIES)
@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
async def test_a_file_that_is_coarse_already_is_not_encoded(
    codec: Codec, tmp_path: Path, suffix: str, quality: int, wanted: int, *, is_kept: bool
) -> None:
    picture = photo(200, grain=8)
    content = bytes(picture.write_to_buffer(suffix, Q=quality, keep="none"))
    (tmp_path / "source").write_bytes(content)
    kind = {".jpg": "image/jpeg", ".webp": "image/webp"}[suffix]
    is_coarse = (quality_of_jpeg if suffix == ".jpg" else webp).is_coarse(tmp_path / "source", wanted)
    assert is_coarse == is_kept
    found = await prepare(codec, tmp_path, content, kind, Profile(quality=wanted))
    if is_kept:
        assert (found.path.read_bytes(), found.content_type, found.frames) == (content, kind, 1)
    assert (found.width, found.height, bool(found.thumbhash)) == (200, 200, True)


async def test_a_coarse_jpeg_in_other_colours_or_sampling_is_coarse_too(tmp_path: Path) -> None:
    others = (
        {"progressive": True},
        {"subsampling": 0},
        {"restart_marker_rows": 1},
        {"quality": 60, "qtables": "web_low"},
    )
    for options in ({}, *others):
        for mode in ("RGB", "L"):
            Image.fromarray(to_uint8(chart())).convert(mode).save(tmp_path / "it", "JPEG", **{"quality": 80, **options})
            assert quality_of_jpeg.is_coarse(tmp_path / "it", 85), (options, mode)
    Image.fromarray(to_uint8(chart())).save(tmp_path / "it", "JPEG", qtables="web_very_high")
    assert not quality_of_jpeg.is_coarse(tmp_path / "it", 85)
    (tmp_path / "it").write_bytes(b"\xff\xd8\xff\xdb\0\4\0\0\xff\xda\0\2\xff\xd9")
    assert not quality_of_jpeg.is_coarse(tmp_path / "it", 85)


def moving_webp(quality: int, **options: object) -> bytes:
    output = io.BytesIO()
    first, *others = drifting(alpha=False)
    options = {"quality": quality, "method": 2, **options}
    first.save(output, "WEBP", save_all=True, append_images=others, duration=80, **options)
    return output.getvalue()


@pytest.mark.parametrize(("quality", "is_kept"), [(50, True), (80, True), (85, True), (95, False), (100, False)])
async def test_an_animation_that_is_coarse_already_is_not_encoded(
    codec: Codec, tmp_path: Path, quality: int, *, is_kept: bool
) -> None:
    content = moving_webp(quality)
    (tmp_path / "animation").write_bytes(content)
    assert webp.is_coarse(tmp_path / "animation", 85) == is_kept
    encoded = pyvips.Image.webpload_buffer(content, n=-1).webpsave_buffer(Q=85, effort=2)
    assert (len(encoded) > 0.95 * len(content)) == is_kept
    found = await prepare(codec, tmp_path, content, "image/webp")
    assert (found.path.read_bytes() == content) == is_kept
    assert (found.frames, found.duration) == (6, 0.48)


def test_lossless_frames_are_not_coarse(tmp_path: Path) -> None:
    (tmp_path / "lossless").write_bytes(moving_webp(80, lossless=True))
    (tmp_path / "mixed").write_bytes(moving_webp(80, allow_mixed=True))
    assert not webp.is_coarse(tmp_path / "lossless", 85)
    assert webp.is_coarse(tmp_path / "mixed", 85) == (b"VP8L" not in (tmp_path / "mixed").read_bytes())
