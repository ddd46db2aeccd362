"""The similarity of stored pictures to their originals, so that no side wins by blurring."""

import asyncio
from pathlib import Path

import pyvips
from skimage.metrics import structural_similarity

from tests.benchmarks.environment import BenchmarkRun

LOOKED_AT = 4
SIDE = 512
"""Pictures are compared in grey. Of larger ones only the middle of this size is compared: all would take seconds."""
STORED = """
    select g.output->'images'->0->>'url' as url, g.media->0->>'path' as path from generations g
    where g.media->0->>'content_type' in ('image/jpeg', 'image/webp')
      and g.output::text not like '%.gif"%' order by g.id limit $1
"""


async def least_ssim(run: BenchmarkRun, files: Path) -> float:
    """Return the least SSIM of a few stored pictures and their originals. Raises RuntimeError when there are none."""
    rows = await run.sql.fetch(STORED, LOOKED_AT)
    pairs = [(files / row["url"].rpartition("/")[2], run.objects / "generations" / row["path"]) for row in rows]
    if not pairs:
        raise RuntimeError("no picture was stored, so none can be compared")
    return await asyncio.to_thread(lambda: min(_ssim(*pair) for pair in pairs))


def _ssim(original: Path, stored: Path) -> float:
    one, other = (_grey(path) for path in (original, stored))
    return float(structural_similarity(one, other, data_range=255))


def _grey(path: Path) -> "pyvips.Image":
    image = pyvips.Image.new_from_file(str(path)).colourspace("b-w")
    left, top = ((side - min(side, SIDE)) // 2 for side in (image.width, image.height))
    return image.crop(left, top, min(image.width, SIDE), min(image.height, SIDE)).numpy().squeeze()
