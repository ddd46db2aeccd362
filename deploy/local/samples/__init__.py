"""Generated sample files of the types that FAL's models return, small enough for a demo.

They are drawn from fixed seeds, so the same machine always generates the same bytes. Existing files are kept.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.samples.pictures import (
    animation_gif,
    cut_out_png,
    large_png,
    photo_jpg,
    photo_png,
    photo_webp,
    turned_jpg,
)
from deploy.local.samples.streams import clip_mp4, cube_glb, tone_mp3, tone_wav


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample file. `content_type` is the type of its content, independent of its name; `size` is in bytes."""

    name: str
    path: Path
    content_type: str
    size: int


def make_samples(folder: Path) -> list[Sample]:
    """Generate the valid samples in a folder, which is created. It takes some seconds the first time."""
    return _make(folder, WHOLE_FILES)


def make_broken(folder: Path) -> list[Sample]:
    """Generate files that must be rejected: truncated, empty, or of another type than their names say."""
    make_samples(folder)
    return _make(folder, BROKEN_FILES)


def _make(folder: Path, files: "dict[str, tuple[str, Maker]]") -> list[Sample]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (content_type, maker) in files.items():
        path = folder / name
        if not path.exists():
            unfinished = path.with_name(f".{name}")
            unfinished.write_bytes(maker(folder))
            unfinished.replace(path)  # so that an existing file is always complete
        made.append(Sample(name, path, content_type, path.stat().st_size))
    return made


def _truncated(name: str) -> "Maker":
    """Return a maker that truncates a valid sample to 60% of its bytes."""
    return lambda folder: (content := (folder / name).read_bytes())[: len(content) * 6 // 10]


def _program(_: Path) -> bytes:
    """The header of a Linux executable, followed by arbitrary bytes."""
    return struct.pack("<4sBBBB8xHHI", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1) + bytes(at * 7 % 256 for at in range(8192))


Maker = Callable[[Path], bytes]
PAGE: Final = b"<!DOCTYPE html><html><head><title>Not a picture</title></head><body>404</body></html>\n"
DOCUMENT: Final = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n"

WHOLE_FILES: Final[dict[str, tuple[str, Maker]]] = {
    "photo.png": ("image/png", photo_png),
    "large.png": ("image/png", large_png),
    "photo.jpg": ("image/jpeg", photo_jpg),
    "photo.webp": ("image/webp", photo_webp),
    "cut-out.png": ("image/png", cut_out_png),
    "animation.gif": ("image/gif", animation_gif),
    "turned.jpg": ("image/jpeg", turned_jpg),
    "clip.mp4": ("video/mp4", clip_mp4),
    "tone.mp3": ("audio/mpeg", tone_mp3),
    "tone.wav": ("audio/wav", tone_wav),
    "cube.glb": ("model/gltf-binary", cube_glb),
}
BROKEN_FILES: Final[dict[str, tuple[str, Maker]]] = {
    "cut.jpg": ("image/jpeg", _truncated("photo.jpg")),
    "cut.png": ("image/png", _truncated("photo.png")),
    "cut.mp4": ("video/mp4", _truncated("clip.mp4")),
    "page.png": ("text/html", lambda _: PAGE),
    "program.jpg": ("application/x-executable", _program),
    "empty.png": ("application/x-empty", lambda _: b""),
    "document.pdf": ("application/pdf", lambda _: DOCUMENT),
}
