"""The processor time of checking large files: `python -m tests.benchmarks.large_files [NAME...]`.

Each file of some 40 MB is made, and prepared once in a child whose processor time is printed; so a busy machine matters
little.
"""

import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from handlers.codec import decoder_main
from handlers.media import EncodeOptions, Limits
from schemas.formats import ImageFormat

NOISE = np.random.default_rng(1)
LIMITS = Limits(max_pixels=100_000_000, max_frames=10_000, max_memory=2 << 30, max_written=1 << 32, seconds=600)
OPTIONS = EncodeOptions(ImageFormat.AUTO, 85, strip_metadata=True, keep_provenance=True)
HEADER = (
    "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
    "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
)


def flac(path: Path) -> None:
    samples = 44_100 * 300
    tone = np.sin(np.arange(samples) / 30)[:, None] * 0.3 + NOISE.normal(0, 0.04, (samples, 2))
    soundfile.write(path, tone, 44_100, "PCM_16", format="FLAC")


def obj(path: Path) -> None:
    with path.open("w") as file:
        np.savetxt(file, NOISE.normal(0, 1, (480_000, 3)), "v %.6f %.6f %.6f")
        np.savetxt(file, NOISE.integers(1, 480_001, (1_000_000, 3)), "f %d %d %d")


def ply(path: Path, corners: tuple[int, ...]) -> None:
    vertices, faces = 1_200_000, 2_000_000
    numbers = NOISE.integers(0, vertices, (faces, max(corners)))
    rows = (
        struct.pack(f"<B{count}i", count, *row[:count])
        for row, count in zip(numbers, NOISE.choice(corners, faces), strict=True)
    )
    header = HEADER.format("binary_little_endian", vertices, faces).encode()
    path.write_bytes(header + NOISE.normal(0, 1, (vertices, 3)).astype("<f4").tobytes() + b"".join(rows))


def ply_text(path: Path) -> None:
    with path.open("w") as file:
        file.write(HEADER.format("ascii", 600_000, 1_100_000))
        np.savetxt(file, NOISE.normal(0, 1, (600_000, 3)), "%.6f %.6f %.6f")
        np.savetxt(file, NOISE.integers(0, 600_000, (1_100_000, 3)), "3 %d %d %d")


def animation(path: Path, kind: str) -> None:
    y, x = np.mgrid[0:720, 0:1280]
    base = np.stack([128 + 100 * np.sin(x / 170 + y / 90), 128 + 100 * np.cos(x / 130), 128 + 100 * np.sin(y / 70)], -1)
    frames = []
    for at in range(96):
        picture = np.roll(base, (at * 7, at * 3), (1, 0)) + NOISE.normal(0, 3, (720, 1280, 1))
        frames.append(Image.fromarray(picture.clip(0, 255).astype(np.uint8)))
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=40, quality=75, method=0)


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "flac": ("audio/flac", flac),
    "obj": ("model/obj", obj),
    "ply": ("model/ply", lambda path: ply(path, (3,))),
    "ply-mixed": ("model/ply", lambda path: ply(path, (3, 4))),
    "ply-text": ("model/ply", ply_text),
    "gif": ("image/gif", lambda path: animation(path, "GIF")),
    "webp": ("image/webp", lambda path: animation(path, "WEBP")),
}


def cpu_seconds(source: Path, content_type: str) -> float:
    """Prepare a file in a child; return the processor seconds that it took."""
    child = os.fork()
    if child == 0:
        decoder_main._prepare(source, source.with_name("target"), content_type, OPTIONS, LIMITS)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def main(names: list[str]) -> None:
    """Measure the files with these names, or all."""
    for name in names or FILES:
        content_type, make = FILES[name]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            make(source)
            seconds = cpu_seconds(source, content_type)
            print(f"{name:10} {source.stat().st_size / 1e6:5.1f} MB {seconds:6.2f} s")  # noqa: T201 - its output


if __name__ == "__main__":
    main(sys.argv[1:])
