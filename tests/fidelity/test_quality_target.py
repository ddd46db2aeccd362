"""IMAGE_QUALITY=auto: the lowest quality whose result is similar enough to the source, by scikit-image's SSIM."""

import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageDraw
from skimage import metrics

from deploy.local.samples.pictures import photo
from handlers.codec.codec import Codec
from handlers.media.image.quality.ssim import Original
from handlers.media.image.quality.target import encode_similar
from handlers.settings import MediaSettings, SettingsError
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity.pictures import chart, soft_disc, to_uint8
from worker.periodic.optimize import read_profile

SAVERS = {"jpeg": "jpegsave_buffer", "webp": "webpsave_buffer", "avif": "heifsave_buffer"}
OPTIONS: dict[str, dict[str, object]] = {"avif": {"compression": "av1", "effort": 1}}


def luma(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("L"))


def measured(one: bytes, other: bytes) -> float:
    return float(metrics.structural_similarity(luma(one), luma(other), data_range=255))


@pytest.mark.parametrize("quality", [50, 80, 92])
@pytest.mark.parametrize("format_", ["jpeg", "webp"])
@pytest.mark.parametrize(("side", "grain"), [(600, 3), (200, 1)])
def test_our_ssim_is_near_that_of_scikit_image(side: int, grain: int, format_: str, quality: int) -> None:
    picture = photo(side, grain=grain)
    encoded = bytes(getattr(picture, SAVERS[format_])(Q=quality))
    assert abs(Original(picture).similarity(encoded) - measured(picture.pngsave_buffer(), encoded)) < 0.008


@pytest.mark.parametrize("quality", [40, 60, 80])
def test_what_an_encoder_adds_beside_sharp_edges_lowers_our_ssim(quality: int) -> None:
    drawing = Image.new("RGB", (800, 800), "white")
    for at in range(0, 800, 12):
        ImageDraw.Draw(drawing).line((at, 0, 800 - at, 800), fill="red")
    picture = pyvips.Image.new_from_array(np.asarray(drawing)).copy(interpretation="srgb")
    encoded = bytes(picture.jpegsave_buffer(Q=quality))
    assert abs(Original(picture).similarity(encoded) - measured(picture.pngsave_buffer(), encoded)) < 0.008


@pytest.mark.parametrize("format_", ["jpeg", "webp", "avif"])
def test_the_quality_found_reaches_the_target_and_little_more(format_: str) -> None:
    picture = photo(600, grain=1).copy_memory()
    tries: list[int] = []

    def encode(image: pyvips.Image, quality: int) -> bytes:
        tries.append(image.height)
        return bytes(getattr(image, SAVERS[format_])(Q=quality, **OPTIONS.get(format_, {})))

    content, quality = encode_similar(picture, 0.98, encode)
    assert 0.978 <= measured(picture.pngsave_buffer(), content) <= 0.995
    assert tries.count(600) <= 2
    assert len(tries) <= 5
    assert 40 <= quality <= 95


@pytest.mark.parametrize(("size", "bands"), [((5, 3), 3), ((1, 1), 1), ((700, 9), 3), ((20, 900), 4)])
def test_pictures_of_every_shape_are_encoded(size: tuple[int, int], bands: int) -> None:
    picture = photo(900, grain=2).crop(0, 0, *size)
    picture = picture.extract_band(0) if bands == 1 else picture.bandjoin(200) if bands == 4 else picture
    content, _ = encode_similar(picture.copy_memory(), 0.985, lambda image, quality: image.webpsave_buffer(Q=quality))
    assert Image.open(io.BytesIO(content)).size == size


async def test_the_quality_is_told_and_only_of_what_was_encoded(codec: Codec, tmp_path: Path) -> None:
    picture = photo(400, grain=1)
    contents = {
        "image/png": picture.pngsave_buffer(),
        "image/jpeg": picture.jpegsave_buffer(Q=30, keep="none"),
    }
    profile = Profile(ssim=0.97).with_variants("thumb:100")
    for content_type, content in contents.items():
        (tmp_path / "source").write_bytes(content)
        prepared = await codec.prepare(tmp_path / "source", tmp_path / "prepared", content_type, profile)
        if content_type == "image/png":
            assert prepared.quality is not None
            assert 40 <= prepared.quality <= 95
            assert measured(content, prepared.path.read_bytes()) >= 0.968
        else:
            assert (prepared.quality, prepared.path.read_bytes()) == (None, content)
        assert len(prepared.variants) == 1


async def test_hidden_colours_of_transparent_pixels_do_not_count(codec: Codec, tmp_path: Path) -> None:
    picture = np.dstack([to_uint8(chart()), to_uint8(soft_disc())])
    Image.fromarray(picture).save(tmp_path / "source", "PNG")
    prepared = await codec.prepare(tmp_path / "source", tmp_path / "prepared", "image/png", Profile(ssim=0.95))
    assert prepared.quality is not None
    assert prepared.quality < 90


def test_the_setting_is_part_of_the_profiles_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_QUALITY", "auto")
    monkeypatch.setenv("IMAGE_SSIM", "0.98")
    profile = MediaSettings.load(_env_file=None).profile
    assert (profile.key, profile.quality) == ("auto-qauto0.98-strip", 85)
    assert read_profile(profile.key) == profile
    assert read_profile("webp-q80-strip") == Profile(format=ImageFormat.WEBP, quality=80)
    for name, value in (("IMAGE_QUALITY", "best"), ("IMAGE_QUALITY", "101"), ("IMAGE_SSIM", "1")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(SettingsError, match=name):
                MediaSettings.load(_env_file=None)
