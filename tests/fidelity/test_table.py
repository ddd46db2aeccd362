"""Compares every kind of image, as stored by Outlast, with the same file decoded by another library."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.codec.codec import Codec
from handlers.detect import detect
from tests.fidelity import rows_animated, rows_jpeg, rows_modern, rows_png, rows_tiff
from tests.fidelity.distance import Distance, distance
from tests.fidelity.pictures import chart, soft_disc, to_uint8
from tests.fidelity.profiles import DISPLAY_P3, SRGB_CURVE, in_space
from tests.fidelity.rows import JPEG, WEBP, Bounds, Row, frames_of, opaque

ROWS = [row for rows in (rows_jpeg, rows_png, rows_tiff, rows_modern, rows_animated) for row in rows.ROWS]
NAMES = {"image/jpeg": "JPEG", "image/webp": "WebP", "image/png": "PNG", "image/gif": "GIF", "image/avif": "AVIF"}


def timing(content: bytes) -> tuple[tuple[int, ...], int]:
    """Return each frame's milliseconds and the number of plays, read by Pillow."""
    with Image.open(io.BytesIO(content)) as image:
        delays = []
        for at in range(getattr(image, "n_frames", 1)):
            image.seek(at)
            image.load()
            delays.append(int(image.info["duration"]))
        return tuple(delays), int(image.info.get("loop", 1))


def is_upright(reference: list[np.ndarray], stored: list[np.ndarray]) -> bool:
    """Whether the stored image without rotation or mirroring is closest to the reference."""
    one, other = reference[0][..., :3].astype(int), stored[0][..., :3].astype(int)
    turns = [np.rot90(side, quarters) for side in (other, other[:, ::-1]) for quarters in range(4)]
    errors = [np.abs(one - turn).mean() if turn.shape == one.shape else np.inf for turn in turns]
    return int(np.argmin(errors)) == 0


def within(measured: Distance, bounds: Bounds) -> bool:
    return measured.ssim >= bounds.ssim and measured.delta_e <= bounds.delta_e and measured.shift <= bounds.shift


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_stored_image_looks_like_its_reference(
    row: Row, codec: Codec, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    source, content = tmp_path / "source", row.make()
    source.write_bytes(content)
    assert detect(content).mime_type == row.content_type
    prepared = await codec.prepare(source, tmp_path / "prepared", row.content_type, row.profile)
    stored, reference = prepared.path.read_bytes(), row.read(content)
    pictures = frames_of(stored)
    upright = is_upright(reference, pictures)
    duration = sum(row.delays) / 1000 if row.delays else None
    is_unchanged = stored == content
    measured = Distance(1, 0, 0, 0) if is_unchanged else distance(reference, pictures)
    is_on_time = prepared.duration == duration and (
        not row.delays or is_unchanged or timing(stored) == (row.delays, row.plays)
    )
    name = "unchanged" if is_unchanged else NAMES[prepared.content_type]
    record_property(
        "fidelity",
        f"{row.name:42} {name:10} {len(content) / 1000:5.0f} ->{len(stored) / 1000:4.0f}  {measured.ssim:.4f} "
        f"{measured.delta_e:6.2f} {measured.shift:5.2f} {measured.alpha:5} {'yes' if upright else 'NO':>8} "
        f"{('equal' if is_on_time else 'NOT EQUAL') if row.delays else '':<10}{row.bounds.name}",
    )
    assert prepared.content_type == row.becomes
    assert is_unchanged == (row.bounds.ssim == 1)
    assert within(measured, row.bounds), f"{measured}; {row.bounds}"
    assert measured.alpha <= 1
    assert upright
    assert is_on_time
    assert (prepared.height, prepared.width) == reference[0].shape[:2]
    assert prepared.frames == len(reference)
    with Image.open(io.BytesIO(stored)) as image:
        assert is_unchanged or (not image.info.get("icc_profile") and 0x112 not in image.getexif())


def test_the_table_has_every_image_type() -> None:
    assert len(ROWS) >= 60
    assert {row.content_type for row in ROWS} == {*NAMES, "image/heic", "image/tiff"}


WRONG = {
    "an ignored profile": opaque(to_uint8(in_space(chart(), DISPLAY_P3, SRGB_CURVE))),
    "linear light read as sRGB": opaque(to_uint8(chart() ** 2.2)),
    "red and blue exchanged": opaque(to_uint8(chart()))[..., [2, 1, 0, 3]],
    "grey": opaque(to_uint8(chart()[..., 1])),
    "upside down": opaque(to_uint8(chart()))[::-1],
    "mirrored": opaque(to_uint8(chart()))[:, ::-1],
    "shifted by three pixels": np.roll(opaque(to_uint8(chart())), 3, axis=1),
}


@pytest.mark.parametrize("error", WRONG)
def test_a_wrong_image_exceeds_the_bounds(error: str) -> None:
    right = opaque(to_uint8(chart()))
    assert within(distance([right], [right]), JPEG)
    assert not within(distance([right], [WRONG[error]]), JPEG)


def test_a_rotated_image_is_detected() -> None:
    right = opaque(to_uint8(chart()))
    assert is_upright([right], [right])
    assert not any(is_upright([right], [wrong]) for wrong in (right[::-1], right[:, ::-1], np.rot90(right, 2)))


def test_premultiplied_alpha_exceeds_the_bounds() -> None:
    straight = np.dstack([to_uint8(chart()), to_uint8(soft_disc())])
    multiplied = np.dstack([to_uint8(chart() * soft_disc()[..., None]), to_uint8(soft_disc())])
    assert not within(distance([straight], [multiplied]), WEBP)
