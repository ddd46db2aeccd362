"""Sample files, made on the spot: what FAL's models return, small enough for a demo and real enough to decode.

Everything is drawn from fixed seeds, so the same machine makes the same bytes again. A file that is there is kept.
"""

import io
import json
import math
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import pyvips

SEED: Final = 20_240_607
PHOTO_SIDE: Final = 1024
LARGE_SIDE: Final = 2048
FRAME_DELAYS: Final = (80, 120, 200, 80, 120, 400)
"""Milliseconds each frame of the animation is shown."""
FRAMES_PER_SECOND: Final = 24
VIDEO_FRAMES: Final = 60
VIDEO_SIZE: Final = (480, 272)
SAMPLE_RATE: Final = 44_100
TONES: Final = (261.63, 329.63, 392.00, 523.25)  # C major, upwards, in Hz
GLB_JSON, GLB_BINARY = b"JSON", b"BIN\0"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample file; `content_type` is what its content is, `size` in bytes."""

    name: str
    path: Path
    content_type: str
    size: int


def make_samples(folder: Path) -> list[Sample]:
    """Make the samples that decode, in a folder that is made too. Takes some seconds; nothing when they are there."""
    return _make(folder, WHOLE_FILES)


def make_broken(folder: Path) -> list[Sample]:
    """Make files that must be refused: cut short, or not what their names say."""
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
            unfinished.replace(path)  # a file that is there is whole
        made.append(Sample(name, path, content_type, path.stat().st_size))
    return made


def photo(side: int, seed: int = SEED, grain: float = 1.0) -> pyvips.Image:
    """Draw something with a photograph's statistics: smooth light, soft shapes at every scale, fine grain. RGB.

    `grain` is the standard deviation of the noise, of 255.
    """
    across = pyvips.Image.xyz(side, side) / side
    light = 150 + 50 * across[0] - 70 * across[1]
    clouds = sum(
        pyvips.Image.perlin(side, side, cell_size=side // cells, seed=seed + cells) * strength
        for cells, strength in ((2, 45), (4, 30), (8, 18), (16, 12), (32, 8))
    )
    hills = sum(
        ((across[1] > 0.55 + 0.1 * at + across[0] * slope) / 255) * depth
        for at, (slope, depth) in enumerate(((0.1, -40), (-0.15, -30), (0.05, -25)))
    )
    base = light + clouds + hills
    tints = ((0.7, 0.5, 6), (0.85, 0.05, 10), (1.1, -0.5, 30))  # a blue sky that warms towards the ground
    bands = [
        base * (gain + drift * across[1])
        + offset
        + pyvips.Image.gaussnoise(side, side, sigma=grain, mean=0, seed=seed + at)
        for at, (gain, drift, offset) in enumerate(tints)
    ]
    return pyvips.Image.bandjoin(bands[0], bands[1:]).cast("uchar").copy(interpretation="srgb").copy_memory()


def _photo_png(_: Path) -> bytes:
    return bytes(photo(PHOTO_SIDE).pngsave_buffer(compression=6))


def _large_png(_: Path) -> bytes:
    return bytes(photo(LARGE_SIDE, SEED + 100).pngsave_buffer(compression=3))


def _photo_jpg(_: Path) -> bytes:
    return bytes(photo(PHOTO_SIDE, SEED + 200, grain=6).jpegsave_buffer(Q=95))


def _photo_webp(_: Path) -> bytes:
    return bytes(photo(PHOTO_SIDE, SEED + 300, grain=5).webpsave_buffer(Q=90, effort=1))


def _cut_out_png(_: Path) -> bytes:
    """A disc that fades into nothing: real transparency, hard and soft."""
    side = 512
    centred = pyvips.Image.xyz(side, side) - side / 2
    distance = (centred[0] ** 2 + centred[1] ** 2) ** 0.5
    alpha = ((side / 2 - distance) * 4).cast("uchar")
    return bytes(photo(side, SEED + 400).bandjoin(alpha).pngsave_buffer(compression=6))


def _animation_gif(_: Path) -> bytes:
    """A disc that wanders over a picture, with uneven delays, for ever."""
    side = 256
    ground = photo(side, SEED + 500)
    frames = [
        ground.draw_circle([255, 200, 0], 40 + 30 * at, 128 + round(60 * math.sin(at)), 24, fill=True)
        for at in range(len(FRAME_DELAYS))
    ]
    strip = pyvips.Image.arrayjoin(frames, across=1).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", side)
    strip.set_type(pyvips.GValue.gint_type, "loop", 0)
    strip.set_type(pyvips.GValue.array_int_type, "delay", list(FRAME_DELAYS))
    return bytes(strip.gifsave_buffer(effort=3))


def _turned_jpg(_: Path) -> bytes:
    """A landscape as a camera held upright stores it: lying on its side, with the EXIF tag that turns it."""
    lying = photo(PHOTO_SIDE, SEED + 600, grain=4).crop(0, 200, PHOTO_SIDE, 640).copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", 6)
    return bytes(lying.jpegsave_buffer(Q=95))


def _clip_mp4(_: Path) -> bytes:
    """A slow pan over a picture, H.264, with the index at the end as encoders write it."""
    width, height = VIDEO_SIZE
    ground = photo(PHOTO_SIDE, SEED + 700).addalpha().cast("uchar")
    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 24
        for at in range(VIDEO_FRAMES):
            pixels = ground.crop(at * 6, at * 3, width, height).write_to_memory()
            frame = av.VideoFrame.from_bytes(bytes(pixels), width, height, format="rgba")
            frame.pts, frame.time_base = at, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return output.getvalue()


def _tones(seconds: float) -> bytes:
    """Samples of a rising chord: 16 bits, little-endian, one channel."""
    total = int(SAMPLE_RATE * seconds)
    turns = [2 * math.pi * TONES[at * len(TONES) // total] / SAMPLE_RATE for at in range(total)]
    return b"".join(struct.pack("<h", round(12_000 * math.sin(turn * at))) for at, turn in enumerate(turns))


def _tone_mp3(_: Path) -> bytes:
    samples = _tones(3)
    output = io.BytesIO()
    with av.open(output, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", format="s16p")
        step = 1152 * 2  # one MPEG frame
        for at in range(0, len(samples) - step, step):
            frame = av.AudioFrame(format="s16p", layout="mono", samples=step // 2)
            frame.planes[0].update(samples[at : at + step])
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, at // 2, Fraction(1, SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


def _tone_wav(_: Path) -> bytes:
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(_tones(1.5))
    return output.getvalue()


def _cube_glb(_: Path) -> bytes:
    """A cube whose corners have the colours of the colour cube; binary glTF 2.0."""
    corners = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    faces = ((0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5))
    triangles = [corner for a, b, c, d in faces for corner in (a, b, c, a, c, d)]
    places = b"".join(struct.pack("<3f", *corner) for corner in corners)
    colours = b"".join(struct.pack("<4B", *(value * 255 for value in corner), 255) for corner in corners)
    indices = struct.pack(f"<{len(triangles)}H", *triangles)
    sizes = [len(places), len(colours), len(indices)]
    document = json.dumps(_cube_document(sizes, len(corners), len(triangles)), separators=(",", ":")).encode()
    chunks = _chunk(GLB_JSON, document, b" ") + _chunk(GLB_BINARY, places + colours + indices, b"\0")
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _cube_document(sizes: list[int], corners: int, indices: int) -> dict[str, object]:
    places, colours, triangles = sizes
    offsets = (0, places, places + colours)
    targets = (34_962, 34_962, 34_963)  # ARRAY_BUFFER twice, ELEMENT_ARRAY_BUFFER
    return {
        "asset": {"version": "2.0", "generator": "outlast samples"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "cube"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": corners, "type": "VEC3", "min": [0] * 3, "max": [1] * 3},
            {"bufferView": 1, "componentType": 5121, "count": corners, "type": "VEC4", "normalized": True},
            {"bufferView": 2, "componentType": 5123, "count": indices, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": size, "target": target}
            for offset, size, target in zip(offsets, (places, colours, triangles), targets, strict=True)
        ],
        "buffers": [{"byteLength": places + colours + triangles}],
    }


def _chunk(kind: bytes, content: bytes, filler: bytes) -> bytes:
    content += filler * (-len(content) % 4)
    return struct.pack("<I4s", len(content), kind) + content


def _cut(name: str) -> "Maker":
    """Return a maker of the first 60% of a whole sample."""
    return lambda folder: (content := (folder / name).read_bytes())[: len(content) * 6 // 10]


def _program(_: Path) -> bytes:
    """The head of a Linux executable, and some bytes."""
    return struct.pack("<4sBBBB8xHHI", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1) + bytes(at * 7 % 256 for at in range(8192))


Maker = Callable[[Path], bytes]
PAGE: Final = b"<!DOCTYPE html><html><head><title>Not a picture</title></head><body>404</body></html>\n"
DRAWING: Final = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>\n'

WHOLE_FILES: Final[dict[str, tuple[str, Maker]]] = {
    "photo.png": ("image/png", _photo_png),
    "large.png": ("image/png", _large_png),
    "photo.jpg": ("image/jpeg", _photo_jpg),
    "photo.webp": ("image/webp", _photo_webp),
    "cut-out.png": ("image/png", _cut_out_png),
    "animation.gif": ("image/gif", _animation_gif),
    "turned.jpg": ("image/jpeg", _turned_jpg),
    "clip.mp4": ("video/mp4", _clip_mp4),
    "tone.mp3": ("audio/mpeg", _tone_mp3),
    "tone.wav": ("audio/wav", _tone_wav),
    "cube.glb": ("model/gltf-binary", _cube_glb),
}
BROKEN_FILES: Final[dict[str, tuple[str, Maker]]] = {
    "cut.jpg": ("image/jpeg", _cut("photo.jpg")),
    "cut.png": ("image/png", _cut("photo.png")),
    "cut.mp4": ("video/mp4", _cut("clip.mp4")),
    "page.png": ("text/html", lambda _: PAGE),
    "program.jpg": ("application/x-executable", _program),
    "empty.png": ("application/x-empty", lambda _: b""),
    "drawing.svg": ("image/svg+xml", lambda _: DRAWING),
}
