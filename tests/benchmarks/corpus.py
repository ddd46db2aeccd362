"""Files like the output of image models: photo-like pictures of several sizes and formats, an animation, a video.

Octaves of noise under soft shapes compress like photographs, unlike plain noise or flat colour. The same seed gives the
same files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyvips

from deploy.local.samples.streams import clip_mp4

SEED: Final = 7
OCTAVES: Final = 9
PERSISTENCE: Final = 0.85
"""An octave's strength relative to the coarser one; gives a 1024 x 1024 PNG of 1.5 MB and a JPEG (95) of 0.5 MB."""
SHAPES: Final = 12
FRAMES = 12
"""The number of frames of an animation."""


def picture(side: int, seed: int) -> pyvips.Image:
    """Draw one picture: soft discs over fractal noise, whose fine octaves appear only in parts of the picture."""
    rng = np.random.default_rng((SEED, seed))
    detail = np.clip(_noise(rng, 6, side, 1) * 0.8 + 0.35, 0, 1)
    canvas = np.zeros((side, side, 3), np.float32)
    for octave in range(OCTAVES):
        cells = min(4 << octave, side)
        layer = _noise(rng, cells, side, 1) * 0.8 + _noise(rng, cells, side, 3) * 0.35
        canvas += layer * PERSISTENCE**octave * (detail if octave > 2 else 1)
    rows, columns = np.ogrid[:side, :side]
    for _ in range(SHAPES):
        row, column, radius = rng.uniform(0, side, 3)
        inside = np.clip((radius / 5 - np.hypot(rows - row, columns - column)) / 3 + 0.5, 0, 1)[..., None] * 0.6
        canvas = canvas * (1 - inside) + inside * rng.normal(0, 1.5, 3).astype(np.float32)
    pixels = np.clip(128 + 48 * canvas, 0, 255).astype(np.uint8)
    return pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")


def _noise(rng: np.random.Generator, cells: int, side: int, bands: int) -> np.ndarray:
    small = rng.normal(0, 1, (cells, cells, bands)).astype(np.float32)
    grown = pyvips.Image.new_from_array(small).resize(side / cells, kernel="cubic")
    return grown.numpy()[:side, :side].reshape(side, side, bands)


def _still(side: int, saver: str, options: dict[str, object]) -> Callable[[Path, int], None]:
    def make(path: Path, seed: int) -> None:
        getattr(picture(side, seed), saver)(str(path), **options)

    return make


def _animation(path: Path, seed: int) -> None:
    frames = [picture(256, seed * 100 + number) for number in range(FRAMES)]
    film = pyvips.Image.arrayjoin(frames, across=1).copy()
    film.set_type(pyvips.GValue.gint_type, "page-height", 256)
    film.set_type(pyvips.GValue.array_int_type, "delay", [80] * len(frames))
    film.gifsave(str(path))


def _film(path: Path, _: int) -> None:
    path.write_bytes(clip_mp4(path))


@dataclass(frozen=True)
class Kind:
    """A kind of file in a mix: its suffix, and the function that writes it."""

    suffix: str
    make: Callable[[Path, int], None]


PNG: Final = {"compression": 6, "filter": "all"}
KINDS: Final = {
    "png-1024": Kind(".png", _still(1024, "pngsave", PNG)),
    "jpeg-1024": Kind(".jpg", _still(1024, "jpegsave", {"Q": 95})),
    "jpeg-80-1024": Kind(".jpg", _still(1024, "jpegsave", {"Q": 80})),
    "webp-1024": Kind(".webp", _still(1024, "webpsave", {"Q": 92})),
    "png-2048": Kind(".png", _still(2048, "pngsave", PNG)),
    "png-4096": Kind(".png", _still(4096, "pngsave", PNG)),
    "jpeg-4096": Kind(".jpg", _still(4096, "jpegsave", {"Q": 92})),
    "png-64": Kind(".png", _still(64, "pngsave", PNG)),
    "gif": Kind(".gif", _animation),
    "mp4": Kind(".mp4", _film),
}
MIXES: Final = {
    "1024": ("png-1024", "jpeg-1024"),
    "jpeg-80": ("jpeg-80-1024",),
    "big": ("png-2048", "png-4096", "jpeg-4096"),
    "tiny": ("png-64",),
    "mixed": ("png-1024", "jpeg-1024", "webp-1024", "gif", "mp4"),
}
"""Names of kinds, used in turn; one in five of `mixed` is a video."""


def make(folder: Path, mix: str, each: int) -> list[str]:
    """Write `each` files of every kind in the mix that do not exist yet; return all names, kinds in turn."""
    names = []
    for number in range(each):
        for kind in MIXES[mix]:
            path = folder / f"{kind}-{number}{KINDS[kind].suffix}"
            if not path.exists():
                KINDS[kind].make(path, number)
            names.append(path.name)
    return names
