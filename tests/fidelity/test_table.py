"""Every kind of picture, stored by Outlast, beside what another library decodes from the same file."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.codec.codec import Codec
from handlers.detect import detect
from tests.fidelity import rows_jpeg, rows_modern, rows_moving, rows_png, rows_tiff
from tests.fidelity.distance import Distance, distance
from tests.fidelity.pictures import bytes_of, chart, ramp
from tests.fidelity.profiles import DISPLAY_P3, SRGB_CURVE, in_space
from tests.fidelity.rows import JPEG, WEBP, Bounds, Row, frames_of, opaque

ROWS = [row for rows in (rows_jpeg, rows_png, rows_tiff, rows_modern, rows_moving) for row in rows.ROWS]
NAMES = {"image/jpeg": "JPEG", "image/webp": "WebP", "image/png": "PNG", "image/gif": "GIF", "image/avif": "AVIF"}


def timing(content: bytes) -> tuple[tuple[int, ...], int]:
    """Milliseconds of each frame and the number of plays, as Pillow reads them."""
    with Image.open(io.BytesIO(content)) as image:
        delays = []
        for at in range(getattr(image, "n_frames", 1)):
            image.seek(at)
            image.load()
            delays.append(int(image.info["duration"]))
        return tuple(delays), int(image.info.get("loop", 1))


def is_upright(reference: list[np.ndarray], stored: list[np.ndarray]) -> bool:
    """Whether of all turns of the stored picture the one as it is comes nearest."""
    one, other = reference[0][..., :3].astype(int), stored[0][..., :3].astype(int)
    turns = [np.rot90(side, quarters) for side in (other, other[:, ::-1]) for quarters in range(4)]
    errors = [np.abs(one - turn).mean() if turn.shape == one.shape else np.inf for turn in turns]
    return int(np.argmin(errors)) == 0


def holds(found: Distance, bounds: Bounds) -> bool:
    return found.ssim >= bounds.ssim and found.delta_e <= bounds.delta_e and found.shift <= bounds.shift


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_stored_as_it_looks(row: Row, codec: Codec, tmp_path: Path, record_property: Callable[..., None]) -> None:
    source, content = tmp_path / "source", row.make()
    source.write_bytes(content)
    assert detect(content).sniffed == row.content_type
    made = await codec.prepare(source, tmp_path / "prepared", row.content_type, row.profile)
    stored, reference = made.path.read_bytes(), row.read(content)
    pictures = frames_of(stored)
    upright = is_upright(reference, pictures)
    beats = sum(row.delays) / 1000 if row.delays else None
    kept = stored == content
    found = Distance(1, 0, 0, 0) if kept else distance(reference, pictures)
    is_on_time = made.duration == beats and (not row.delays or kept or timing(stored) == (row.delays, row.plays))
    name = "as it was" if kept else NAMES[made.content_type]
    record_property(
        "fidelity",
        f"{row.name:42} {name:10} {len(content) / 1000:5.0f} ->{len(stored) / 1000:4.0f}  {found.ssim:.4f} "
        f"{found.delta_e:6.2f} {found.shift:5.2f} {found.alpha:5} {'yes' if upright else 'NO':>8} "
        f"{('equal' if is_on_time else 'NOT EQUAL') if row.delays else '':<10}{row.bounds.name}",
    )
    assert made.content_type == row.becomes
    assert kept == (row.bounds.ssim == 1)
    assert holds(found, row.bounds), f"{found}; {row.bounds}"
    assert found.alpha <= 1
    assert upright
    assert is_on_time
    assert (made.height, made.width) == reference[0].shape[:2]
    assert made.frames == len(reference)
    with Image.open(io.BytesIO(stored)) as image:
        assert kept or (not image.info.get("icc_profile") and 0x112 not in image.getexif())


def test_the_table_has_every_type_of_image() -> None:
    assert len(ROWS) >= 60
    assert {row.content_type for row in ROWS} == {*NAMES, "image/heic", "image/tiff"}


WRONG = {
    "a profile that is not followed": opaque(bytes_of(in_space(chart(), DISPLAY_P3, SRGB_CURVE))),
    "linear light taken for coded": opaque(bytes_of(chart() ** 2.2)),
    "red and blue exchanged": opaque(bytes_of(chart()))[..., [2, 1, 0, 3]],
    "grey": opaque(bytes_of(chart()[..., 1])),
    "upside down": opaque(bytes_of(chart()))[::-1],
    "mirrored": opaque(bytes_of(chart()))[:, ::-1],
    "three pixels aside": np.roll(opaque(bytes_of(chart())), 3, axis=1),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_picture_that_is_wrong_is_seen(mistake: str) -> None:
    right = opaque(bytes_of(chart()))
    assert holds(distance([right], [right]), JPEG)
    assert not holds(distance([right], [WRONG[mistake]]), JPEG)


def test_a_turned_picture_is_seen() -> None:
    right = opaque(bytes_of(chart()))
    assert is_upright([right], [right])
    assert not any(is_upright([right], [wrong]) for wrong in (right[::-1], right[:, ::-1], np.rot90(right, 2)))


def test_alpha_that_was_multiplied_in_is_seen_as_a_dark_fringe() -> None:
    straight = np.dstack([bytes_of(chart()), bytes_of(ramp())])
    multiplied = np.dstack([bytes_of(chart() * ramp()[..., None]), bytes_of(ramp())])
    assert not holds(distance([straight], [multiplied]), WEBP)
