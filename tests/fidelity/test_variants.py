"""Variants look like their picture in a smaller size, as Pillow makes it: colours, orientation, alpha, first frame."""

from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image
from skimage import metrics

from deploy.local.samples.pictures import photo
from handlers.codec.codec import Codec
from handlers.codec.variants import variant_options
from handlers.media import EncodeOptions, Limits, Prepared
from handlers.media.image import loader
from handlers.media.image import prepare as prepare_here
from handlers.media.image.variants.resize import Resizer
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity import rows_animated, rows_jpeg, rows_modern, rows_png, rows_tiff
from tests.fidelity.distance import composite, delta_e
from tests.fidelity.pictures import HEIGHT, WIDTH, chart, soft_disc, to_uint8, to_uint16
from tests.fidelity.png_files import RGB, chunk, png
from tests.fidelity.rows import Row, frames_of
from tests.fidelity.rows_tiff import tiff

NAMES = (
    "JPEG, orientation 6",
    "JPEG, Adobe RGB, ICC v2",
    "JPEG, CMYK (Adobe) with profile",
    "PNG, P3 by cICP",
    "PNG, linear light (gAMA) 16 bits",
    "PNG, grey",
    "PNG, RGB and alpha 16 bits",
    "PNG, one colour transparent (tRNS)",
    "WebP, animated, half transparent",
    "APNG: kept",
    "WebP, orientation 5",
    "AVIF, 10 bits",
    "HEIC, P3 by nclx",
    "TIFF, RGB float",
    "TIFF, alpha premultiplied",
)
ALL = [row for rows in (rows_jpeg, rows_png, rows_tiff, rows_modern, rows_animated) for row in rows.ROWS]
ROWS = [row for row in ALL if row.name in NAMES]


async def prepare(codec: Codec, folder: Path, content: bytes, content_type: str, profile: Profile) -> Prepared:
    (folder / "source").write_bytes(content)
    return await codec.prepare(folder / "source", folder / "prepared", content_type, profile)


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture in another size; Pillow multiplies alpha in."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def check_looks(reference: np.ndarray, variant: np.ndarray) -> None:
    for background in (255, 0):
        one, other = composite(reference, background), composite(variant, background)
        assert metrics.structural_similarity(one, other, channel_axis=2, data_range=1) >= 0.98
        assert np.percentile(delta_e(one, other), 99) < 2


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_variant_looks_like_the_picture(row: Row, codec: Codec, tmp_path: Path) -> None:
    content = row.make()
    first = row.read(content)[0]
    height, width = first.shape[:2]
    profile = row.profile.with_variants("fit:120:avif:100,fill:60x80:avif:100,plain:50")
    prepared = await prepare(codec, tmp_path, content, row.content_type, profile)
    fit, fill, plain = prepared.variants
    scale = 120 / max(width, height)
    assert (fit.name, fit.width, fit.height) == ("fit", round(width * scale), round(height * scale))
    check_looks(resized(first, fit.width, fit.height), frames_of(fit.path.read_bytes())[0])
    assert (fill.width, fill.height, fill.frames) == (60, 80, 1)
    (window,) = frames_of(fill.path.read_bytes())
    cover = resized(first, max(60, round(80 * width / height)), 80)
    errors = [np.abs(cover[:, at : at + 60].astype(int) - window).mean() for at in range(cover.shape[1] - 59)]
    at = int(np.argmin(errors))
    check_looks(cover[:, at : at + 60], window)
    has_alpha = first[..., 3].min() < 255
    assert (plain.content_type, max(plain.width, plain.height)) == ("image/webp" if has_alpha else "image/jpeg", 50)
    with Image.open(plain.path) as image:
        assert image.size == (plain.width, plain.height)
        assert not image.info.get("icc_profile")
        assert not image.getexif()


@pytest.mark.parametrize("grain", [0, 8, 25])
def test_a_grainy_picture_is_as_sharp_as_by_lanczos(grain: int) -> None:
    picture = photo(640, grain=grain).copy_memory()
    pictures = Resizer(picture)
    for side in (400, 320, 160):  # the last one is made from the one before
        variant = pictures.first_frame((side, side)).bandjoin(255).numpy()
        check_looks(resized(picture.bandjoin(255).numpy(), side, side), variant)


def test_every_row_is_found() -> None:
    assert {row.name for row in ROWS} == set(NAMES)


async def test_a_picture_that_is_small_enough_is_its_own_variant(codec: Codec, tmp_path: Path) -> None:
    content = photo(200, grain=8).pngsave_buffer()
    profile = Profile().with_variants(
        "same:200,larger:4000,other:200:webp,worse:200:jpeg:40,square:300x300,wide:400x300"
    )
    prepared = await prepare(codec, tmp_path, content, "image/png", profile)
    assert [variant.is_picture for variant in prepared.variants] == [True, True, False, False, True, False]
    assert [variant.sha256 == prepared.sha256 for variant in prepared.variants] == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    assert [(each.width, each.height) for each in prepared.variants] == [(200, 200)] * 5 + [(200, 150)]
    assert len({variant.sha256 for variant in prepared.variants}) == 4


async def test_an_animated_variant_has_all_frames_and_their_timing(codec: Codec, tmp_path: Path) -> None:
    (row,) = (row for row in rows_animated.ROWS if row.name == "WebP, animated, 2 plays")
    content = row.make()
    profile = Profile().with_variants("moving:100:animated,still:100,square:80x80:webp:90:animated")
    for wanted in (profile, profile.model_copy(update={"format": ImageFormat.KEEP})):
        prepared = await prepare(codec, tmp_path, content, "image/webp", wanted)
        moving, still, square = prepared.variants
        assert [variant.frames for variant in prepared.variants] == [prepared.frames, 1, prepared.frames]
        assert (still.content_type, square.width, square.height) == ("image/jpeg", 80, 80)
        with Image.open(moving.path) as image:
            assert (image.n_frames, image.info["loop"], max(image.size)) == (prepared.frames, row.plays, 100)
        for one, other in zip(row.read(content), frames_of(moving.path.read_bytes()), strict=True):
            assert np.abs(resized(one, *other.shape[1::-1]).astype(int) - other).mean() < 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize("has_alpha", [False, True])
async def test_a_picture_too_large_for_memory_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, *, has_alpha: bool
) -> None:
    picture = pyvips.Image.new_from_array(to_uint8(chart())).copy(interpretation="srgb")
    if has_alpha:
        picture = picture.bandjoin(pyvips.Image.new_from_array(to_uint8(soft_disc())))
    monkeypatch.setattr(loader, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(loader, "IN_MEMORY_FOR_VARIANTS", 0)
    picture.write_to_file(str(tmp_path / f"source{suffix}"))
    profile = Profile().with_variants("small:60:avif:100,smaller:20:jpeg:98")
    options = EncodeOptions(
        profile.format, 85, strip_metadata=True, keep_provenance=False, variants=variant_options(profile)
    )
    kind = {".jpg": "image/jpeg", ".png": "image/png", ".tiff": "image/tiff"}[suffix]
    limits = Limits(1_000_000, 10, 1 << 30, 1 << 30, 60)
    decoded = prepare_here(tmp_path / f"source{suffix}", tmp_path / "prepared", kind, options, limits)
    small, smaller = decoded.variants
    assert (small.width, small.height, smaller.width) == (60, round(60 * HEIGHT / WIDTH), 20)
    assert decoded.thumbhash
    assert small.path is not None
    first = frames_of((tmp_path / f"source{suffix}").read_bytes())[0]
    check_looks(resized(first, small.width, small.height), frames_of(small.path.read_bytes())[0])


async def test_what_8_bits_cannot_show_has_no_variants(codec: Codec, tmp_path: Path) -> None:
    profile = Profile().with_variants("thumb:20")
    hdr = png(to_uint16(chart()), RGB, chunk(b"cICP", bytes([9, 16, 0, 1])))
    depth = tiff((chart()[..., 1] * 40).astype(np.float32), "minisblack")
    for content, kind in ((hdr, "image/png"), (depth, "image/tiff")):
        assert (await prepare(codec, tmp_path, content, kind, profile)).variants == ()
