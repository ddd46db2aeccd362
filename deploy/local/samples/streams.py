"""The sample video, audio files and 3D model: a pan over a drawn picture, four ascending tones, a coloured cube."""

import io
import json
import math
import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import Final

import av

from deploy.local.samples.pictures import PHOTO_SIDE, SEED, photo

FRAMES_PER_SECOND: Final = 24
VIDEO_FRAMES: Final = 60
VIDEO_SIZE: Final = (480, 272)
SAMPLE_RATE: Final = 44_100
TONES: Final = (261.63, 329.63, 392.00, 523.25)  # C major, upwards, in Hz
GLB_JSON, GLB_BINARY = b"JSON", b"BIN\0"


def clip_mp4(_: Path) -> bytes:
    """A slow pan over a picture in H.264, with the index (`moov`) at the end of the file, where encoders write it."""
    width, height = VIDEO_SIZE
    ground = photo(PHOTO_SIDE, SEED + 700).addalpha().cast("uchar")
    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as container:
        # x264's assembly reads memory beyond the edge of a frame, so its output differs between runs.
        reproducible = {"preset": "veryfast", "x264-params": "asm=0:threads=1"}
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=reproducible)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 24
        for at in range(VIDEO_FRAMES):
            pixels = ground.crop(at * 6, at * 3, width, height).write_to_memory()
            frame = av.VideoFrame.from_bytes(bytes(pixels), width, height, format="rgba")
            frame.pts, frame.time_base = at, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return output.getvalue()


def _tones(seconds: float) -> bytes:
    """PCM samples of four ascending tones: 16 bits, little-endian, one channel."""
    total = int(SAMPLE_RATE * seconds)
    turns = [2 * math.pi * tone / SAMPLE_RATE for tone in TONES]
    levels = (round(12_000 * math.sin(turns[at * len(TONES) // total] * at)) for at in range(total))
    return struct.pack(f"<{total}h", *levels)


def tone_mp3(_: Path) -> bytes:
    """Three seconds of MP3, with the Xing header that has the duration."""
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


def tone_wav(_: Path) -> bytes:
    """1.5 seconds of WAV."""
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(_tones(1.5))
    return output.getvalue()


def cube_glb(_: Path) -> bytes:
    """A cube in binary glTF 2.0 whose corners have the colours of the RGB cube."""
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
