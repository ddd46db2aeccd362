"""The poster of a video looks like its first frame that shows something, as a player shows it."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.codec.codec import Codec
from handlers.codec.request import Request
from handlers.media import Prepared, PreparedPoster
from schemas.jobs import Profile
from tests.fidelity.distance import delta_e
from tests.fidelity.pictures import HEIGHT, WIDTH, chart, soft_disc, to_uint8
from tests.fidelity.rows import frames_of
from tests.fidelity.test_variants import resized
from tests.fidelity.video_files import HLG, PQ, black, film, hdr, picture, transparent, turned
from tests.media_samples import media_sample, sound

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
FULL = Profile().with_variants("poster:4000:avif:100,thumb:60:animated")
UPRIGHT = to_uint8(chart())
TURNS = {
    "90": np.rot90(UPRIGHT, -1),
    "180": np.rot90(UPRIGHT, 2),
    "270": np.rot90(UPRIGHT),
    "mirrored": UPRIGHT[:, ::-1],
}


async def poster_of(
    codec: Codec, folder: Path, content: bytes, content_type: str = "video/mp4", profile: Profile = FULL
) -> tuple[Prepared, np.ndarray]:
    """Prepare a video; return it, and the pixels of its largest variant, RGBA."""
    source = folder / "source"
    source.write_bytes(content)
    prepared = await codec.prepare(source, folder / "prepared", content_type, profile)
    assert (prepared.variants, prepared.thumbhash) == ((), None)
    prepared = await codec.add_poster(prepared, folder / "poster", profile)
    assert prepared.thumbhash
    assert [variant.frames for variant in prepared.variants] == [1, 1]
    (pixels,) = frames_of(prepared.variants[0].path.read_bytes())
    return prepared, pixels


def shift(reference: np.ndarray, pixels: np.ndarray) -> float:
    """Return the 95th percentile of CIEDE2000 of the averages of 8x8 blocks."""
    assert pixels.shape[:2] == reference.shape[:2]
    high, wide = reference.shape[0] // 8, reference.shape[1] // 8
    one, other = (
        each[: high * 8, : wide * 8, :3].reshape(high, 8, wide, 8, 3).mean(axis=(1, 3)) / 255
        for each in (reference, pixels)
    )
    return float(np.percentile(delta_e(one, other), 95))


@pytest.mark.parametrize("how", TURNS)
async def test_a_turned_video_has_an_upright_poster(codec: Codec, tmp_path: Path, how: str) -> None:
    """Half a second of black comes first."""
    frames = [(black(), at / 25) for at in range(12)] + [(picture(), at / 25) for at in range(12, 15)]
    content = turned(film("mp4", "libx264", frames, options=LOSSLESS), how)
    prepared, pixels = await poster_of(codec, tmp_path, content)
    reference = TURNS[how]
    assert (prepared.height, prepared.width) == reference.shape[:2]
    assert shift(reference, pixels) < 2
    thumb = prepared.variants[1]
    assert (thumb.content_type, max(thumb.width, thumb.height)) == ("image/jpeg", 60)


@pytest.mark.parametrize("transfer", [PQ, HLG])
async def test_hdr_becomes_sdr(codec: Codec, tmp_path: Path, transfer: int) -> None:
    """What is up to half as bright as white keeps its colour; what is brighter keeps its hue and its order."""
    options = {"x265-params": "log-level=none:lossless=1:bframes=0:frame-threads=1:pools=none", "preset": "ultrafast"}
    content = film("mp4", "libx265", [(hdr(transfer), 0), (hdr(transfer), 0.04)], transfer=transfer, options=options)
    _, pixels = await poster_of(codec, tmp_path, content)
    bright = UPRIGHT.max(axis=2) > 170
    dark = pixels.copy()
    dark[bright, :3] = UPRIGHT[bright]
    assert shift(UPRIGHT, dark) < 2
    assert shift(UPRIGHT, pixels) < 5
    grey = pixels[64:224, 20:60, 1].reshape(16, 10, 40).mean(axis=(1, 2))
    assert np.all(np.diff(grey) > 0)
    assert 205 < grey[-1] < 230


@pytest.mark.parametrize("name", ["libvpx", "libvpx-vp9"])
async def test_transparency_is_kept(codec: Codec, tmp_path: Path, name: str) -> None:
    options = {"auto-alt-ref": "0", "crf": "4", "b": "4M", "deadline": "realtime", "cpu-used": "8"}
    frames = [(transparent(), at / 25) for at in range(3)]
    _, pixels = await poster_of(codec, tmp_path, film("webm", name, frames, options=options), "video/webm")
    alpha = to_uint8(soft_disc())
    assert np.abs(pixels[..., 3].astype(int) - alpha).max() < 12
    seen = pixels.copy()
    seen[alpha < 250, :3] = UPRIGHT[alpha < 250]
    assert shift(UPRIGHT, seen) < 3


@pytest.mark.parametrize(
    ("times", "shown"),
    [((0, 0.9, 1.7, 1.9, 5), 3), ((0, 0.001, 2.5, 2.6, 9), 2), ((0, 2.1, 2.2, 2.3, 2.4), 0)],
    ids=["within two seconds", "after two seconds", "one frame within two seconds"],
)
async def test_the_frame_is_chosen_by_its_time(
    codec: Codec, tmp_path: Path, times: tuple[float, ...], shown: int
) -> None:
    """Frame times are uneven. Four frames are black, or of one colour; the test picture comes as the fourth.

    If it is later than two seconds, the frame with the most contrast before is the poster: here the last black one.
    """
    frames = [black(), black(200), black(0), picture(), picture()]
    content = film("mp4", "libx264", list(zip(frames, times, strict=True)), options=LOSSLESS)
    prepared, pixels = await poster_of(codec, tmp_path, content)
    assert (prepared.frames, shown == 3) == (5, shift(UPRIGHT, pixels) < 2)


async def test_pixels_that_are_not_square(codec: Codec, tmp_path: Path) -> None:
    """The video has the size that browsers show; the poster has no more pixels than the video."""
    content = film("mp4", "libx264", [(picture(), 0)], aspect=Fraction(4, 3), options=LOSSLESS)
    prepared, pixels = await poster_of(codec, tmp_path, content)
    assert (prepared.width, prepared.height, prepared.frames) == (WIDTH * 4 // 3, HEIGHT, 1)
    assert shift(resized(UPRIGHT, WIDTH, HEIGHT * 3 // 4), pixels) < 2


async def test_without_variants_there_is_a_placeholder(codec: Codec, tmp_path: Path) -> None:
    content = film("mp4", "libx264", [(picture(), 0)], options=LOSSLESS)
    with_variants, _ = await poster_of(codec, tmp_path, content)
    plain = await codec.make_poster(tmp_path / "source", tmp_path / "other", "video/mp4", Profile())
    assert plain.variants == ()
    assert plain.thumbhash is not None
    assert with_variants.thumbhash is not None
    assert len(plain.thumbhash) == len(with_variants.thumbhash)


@pytest.mark.parametrize(
    ("operation", "code"), [("os:abort", "decoder_crashed"), ("no.such:function", "decoder_failed")]
)
async def test_a_poster_that_cannot_be_made_is_logged_and_left_out(
    codec: Codec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    code: str,
) -> None:
    calls = []

    def failing(*_: object) -> Request[PreparedPoster]:
        calls.append(operation)
        return Request(operation, (), lambda _: PreparedPoster())

    monkeypatch.setattr("handlers.codec.codec.poster_request", failing)
    sample = media_sample("mp4")
    (tmp_path / "source").write_bytes(sample.content)
    prepared = await codec.prepare(tmp_path / "source", tmp_path / "out", sample.content_type, FULL)
    assert await codec.add_poster(prepared, tmp_path / "poster", FULL) == prepared
    assert len(calls) == 2, "it is tried once more, because the process may have ended for another reason"
    (record,) = (record for record in caplog.records if record.message == "no poster")
    assert vars(record)["code"] == code


async def test_waveforms_are_of_audio_only(codec: Codec, tmp_path: Path) -> None:
    """The first half is silent. The two joined files show the silence twice."""
    profile = Profile().with_variants("audio:waveform,thumb:60")
    mp3 = sound("mp3", "libmp3lame", "s16p", seconds=2, quiet=1)
    for content, content_type, parts in (
        (sound("wav", "pcm_s16le", "s16", seconds=2, quiet=1), "audio/wav", 2),
        (mp3 + mp3, "audio/mpeg", 4),
    ):
        source = tmp_path / "source"
        source.write_bytes(content)
        prepared = await codec.prepare(source, tmp_path / "prepared", content_type, profile)
        assert await codec.add_poster(prepared, tmp_path / "poster", Profile()) == prepared
        (wave,) = (await codec.add_poster(prepared, tmp_path / "poster", profile)).variants
        assert (wave.name, wave.content_type, wave.width, wave.height) == ("audio", "image/png", 1024, 256)
        with Image.open(wave.path) as image:
            assert (image.mode, image.size) == ("LA", (1024, 256))
            shown = (np.asarray(image)[..., 1] > 0).mean(axis=0)
        means = [part[len(part) // 5 : -len(part) // 5].mean() for part in np.array_split(shown, parts)]
        assert all(mean < 0.02 for mean in means[::2])
        assert all(mean > 0.9 for mean in means[1::2])
