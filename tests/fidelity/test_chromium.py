"""What is stored looks in Chromium as its source does: stills, and every frame of animations at its time."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from skimage import metrics

from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.media import Prepared
from schemas.jobs import Profile
from tests.browser import started_chromium
from tests.fidelity import rows_animated, rows_flags, rows_jpeg, rows_modern, rows_png
from tests.fidelity.chromium import Chromium, Rendering
from tests.fidelity.distance import blurred_delta_e
from tests.fidelity.rows import JPEG, KEPT, Row
from tests.fidelity.rows_flags import Flagged

pytestmark = pytest.mark.service

SHOWN = {"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif"}
"""The types of the other tables that Chromium shows."""
NOT_ROTATED = "WebP, orientation 5"
"""Chromium ignores the orientation in WebP's EXIF, other viewers apply it."""
MAX_DELTA_E, MIN_SSIM = 1.0, 0.97
"""CIEDE2000 of the averages of 8x8 blocks, mean of all; structural similarity of luminance by its authors."""


def shown(row: Row) -> Flagged:
    """Return a row of the other tables."""
    return Flagged(row.name, row.content_type, row.make, animated=row.delays is not None, kept=row.bounds is KEPT)


OTHERS = [row for rows in (rows_png, rows_jpeg, rows_modern, rows_animated) for row in rows.ROWS]
ROWS = [
    *rows_flags.ROWS,
    *(
        shown(row)
        for row in OTHERS
        if row.content_type in SHOWN and row.bounds in {JPEG, KEPT} and row.name != NOT_ROTATED
    ),
]


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Chromium]:
    async with started_chromium() as browser:
        page = Chromium(await browser.new_page())
        await page.open()
        yield page


def steps(rendering: Rendering) -> list[tuple[np.ndarray, float]]:
    """Return the pictures and how long each is shown; equal neighbours are one."""
    found: list[tuple[np.ndarray, float]] = []
    for picture, milliseconds in zip(rendering.frames, rendering.milliseconds, strict=True):
        if found and np.array_equal(found[-1][0], picture):
            found[-1] = picture, found[-1][1] + milliseconds
        else:
            found.append((picture, milliseconds))
    return found


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    grey = [picture @ [0.2126, 0.7152, 0.0722] for picture in (one, other)]
    return float(
        metrics.structural_similarity(
            *grey, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def on(picture: np.ndarray, background: float) -> np.ndarray:
    """Return a picture on a background, 0 to 1."""
    alpha = picture[..., 3:] / 255
    return picture[..., :3] / 255 * alpha + background * (1 - alpha)


def check_looks(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of colours and the least similarity, on white and on black."""
    assert one.shape == other.shape
    is_opaque = one[..., 3].min() == other[..., 3].min() == 255
    pairs = [(on(one, background), on(other, background)) for background in ((1.0,) if is_opaque else (1.0, 0.0))]
    return max(blurred_delta_e(*pair) for pair in pairs), min(similarity(*pair) for pair in pairs)


async def rendered(
    chromium: Chromium, row: Flagged, codec: Codec, folder: Path
) -> tuple[Rendering, Rendering, Prepared]:
    """Return the source and the stored file as they are shown."""
    content = row.make()
    (folder / "source").write_bytes(content)
    assert detect(content).mime_type == row.content_type
    prepared = await codec.prepare(folder / "source", folder / "prepared", row.content_type, Profile())
    assert (prepared.path.read_bytes() == content) or not row.kept
    is_animation = row.animated and (prepared.frames or 1) > 1
    source = await chromium.render(content, row.content_type, animated=row.animated)
    if prepared.path.read_bytes() == content:
        return source, source, prepared
    stored = await chromium.render(prepared.path.read_bytes(), prepared.content_type, animated=is_animation)
    return source, stored, prepared


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_stored_file_is_shown_as_its_source(
    row: Flagged, chromium: Chromium, codec: Codec, tmp_path: Path
) -> None:
    source, stored, prepared = await rendered(chromium, row, codec, tmp_path)
    before, after = steps(source), steps(stored)
    assert [time for _, time in after] == [time for _, time in before]
    assert stored.plays == source.plays
    looks = [check_looks(one, other) for (one, _), (other, _) in zip(before, after, strict=True)]
    assert max(delta_e for delta_e, _ in looks) < MAX_DELTA_E, looks
    assert min(ssim for _, ssim in looks) >= MIN_SSIM, looks
    assert prepared.frames == len(stored.frames)
    if len(stored.frames) > 1:
        assert prepared.duration == sum(stored.milliseconds) / 1000
