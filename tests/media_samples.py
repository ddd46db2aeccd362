"""Small complete files of every stored type in the relevant variants, for the contract suite and the fuzz tests."""

import contextlib
import functools
import io
import math
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pillow_heif
import pyvips
import soundfile
from PIL import Image

from deploy.local.samples.pictures import photo
from handlers.media.formats import ALSO_DETECTED_AS
from tests import document_samples as documents
from tests import model_files as models
from tests.model_samples import archive, glb, gltf, obj, ply

os.environ["SVT_LOG"] = "0"  # the AV1 encoder logs a lot
RATE = 48_000
SIDE = 80


@dataclass(frozen=True, slots=True)
class MediaSample:
    """A sample: its content type and its bytes."""

    content_type: str
    content: bytes


@contextlib.contextmanager
def scheduling_kept() -> Iterator[None]:
    """Restore the scheduling of this thread. SVT-AV1 makes it real-time for root, which starves other processes."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def video(
    container_format: str, codec: str, options: dict[str, str] | None = None, *, side: int = 64, frames: int = 50
) -> bytes:
    with (
        scheduling_kept(),
        tempfile.NamedTemporaryFile() as output,  # a file, because some containers are written by reading them again
        av.open(output.name, "w", format=container_format, options=options or {}) as container,
    ):
        stream = container.add_stream(codec, rate=25, options={"threads": "1", "x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = side, side // 2, "yuv420p", 10
        for at in range(frames):
            pixels = bytes((at * 3 + position * 5) % 256 for position in range(side * (side // 2) * 4))
            frame = av.VideoFrame.from_bytes(pixels, side, side // 2, format="rgba").reformat(format="yuv420p")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.close()
        return Path(output.name).read_bytes()


def sound(
    container_format: str, codec: str, sample_format: str, *, seconds: float = 2, quiet: float = 0, bit_rate: int = 0
) -> bytes:
    """Return a tone; the first `quiet` seconds are silent. `bit_rate` in bit/s; 0: the encoder's default."""
    output = io.BytesIO()
    wave = [math.sin(at / 20) / 2 if at >= quiet * RATE else 0.0 for at in range(int(RATE * seconds))]
    layout, scale = ("<f", 1.0) if sample_format == "fltp" else ("<h", 32_000)
    with av.open(output, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono", format=sample_format)
        if bit_rate:
            stream.bit_rate = bit_rate
        for at in range(0, len(wave), 960):
            values = wave[at : at + 960]
            frame = av.AudioFrame(format=sample_format, layout="mono", samples=len(values))
            packed = (struct.pack(layout, value * scale if scale == 1.0 else round(value * scale)) for value in values)
            frame.planes[0].update(b"".join(packed).ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


def plain_mp3() -> bytes:
    """Return an MP3 as it is streamed: only frames, without an ID3 tag or a Xing header."""
    content = sound("mp3", "libmp3lame", "s16p", seconds=1)
    tag, frame = 10 + content[9], 144 * 64_000 // RATE
    assert {b"Xing", b"Info"} & {content[tag + 21 : tag + 25]}
    return content[tag + frame :]


def vorbis() -> bytes:
    output = io.BytesIO()
    wave = [math.sin(at / 20) / 2 for at in range(RATE)]
    soundfile.write(output, wave, RATE, format="OGG", subtype="VORBIS")
    return output.getvalue()


def picture(suffix: str, **options: object) -> bytes:
    return bytes(photo(SIDE, grain=4).write_to_buffer(suffix, **options))


def animation(suffix: str, **options: object) -> bytes:
    frames = [photo(SIDE).draw_circle([255, 200, 0], 10 + 8 * at, 40, 8, fill=True) for at in range(4)]
    strip = pyvips.Image.arrayjoin(frames, across=1).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", SIDE)
    strip.set_type(pyvips.GValue.gint_type, "loop", 0)
    strip.set_type(pyvips.GValue.array_int_type, "delay", [80, 120, 200, 400])
    return bytes(strip.write_to_buffer(suffix, **options))


def heic() -> bytes:
    pillow_heif.options.DECODE_THREADS = 1
    output = io.BytesIO()
    pixels = photo(SIDE).write_to_memory()
    pillow_heif.from_bytes("RGB", (SIDE, SIDE), bytes(pixels)).save(output, quality=80)
    return output.getvalue()


def apng() -> bytes:
    frames = [Image.frombytes("RGB", (SIDE, SIDE), bytes(photo(SIDE, seed).write_to_memory())) for seed in (1, 2, 3)]
    output = io.BytesIO()
    frames[0].save(output, "PNG", save_all=True, append_images=frames[1:], duration=100)
    return output.getvalue()


MAKERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg": ("image/jpeg", lambda: picture(".jpg", Q=90)),
    "jpeg, progressive": ("image/jpeg", lambda: picture(".jpg", Q=40, interlace=True)),
    "png": ("image/png", lambda: picture(".png")),
    "png, interlaced": ("image/png", lambda: picture(".png", interlace=True)),
    "png, animated": ("image/png", apng),
    "webp": ("image/webp", lambda: picture(".webp", Q=60)),
    "webp, lossless": ("image/webp", lambda: picture(".webp", lossless=True)),
    "webp, animated": ("image/webp", lambda: animation(".webp", Q=60)),
    "gif": ("image/gif", lambda: picture(".gif")),
    "gif, animated": ("image/gif", lambda: animation(".gif")),
    "avif": ("image/avif", lambda: picture(".avif", Q=60)),
    "tiff": ("image/tiff", lambda: picture(".tiff")),
    "tiff, packed": ("image/tiff", lambda: picture(".tiff", compression="deflate", predictor="horizontal")),
    "heic": ("image/heic", heic),
    "svg": ("image/svg+xml", documents.svg),
    "bmp": ("image/bmp", lambda: documents.pillow("BMP")),
    "tga": ("image/x-tga", lambda: documents.pillow("TGA")),
    "tga, packed": ("image/x-tga", lambda: documents.pillow("TGA", "RGBA", compression="tga_rle")),
    "ico": ("image/vnd.microsoft.icon", lambda: documents.pillow("ICO", sizes=[(16, 16), (32, 32)])),
    "jp2": ("image/jp2", lambda: documents.pillow("JPEG2000")),
    "psd": ("image/vnd.adobe.photoshop", documents.psd),
    "exr": ("image/x-exr", documents.exr),
    "mp4": ("video/mp4", lambda: video("mp4", "libx264")),
    "mp4 for the web": ("video/mp4", lambda: video("mp4", "libx264", {"movflags": "+faststart"})),
    "mp4 in fragments": ("video/mp4", lambda: video("mp4", "libx264", {"movflags": "+frag_keyframe+empty_moov"})),
    "mp4 of hevc": ("video/mp4", lambda: video("mp4", "libx265", frames=12)),
    "mp4 of av1": ("video/mp4", lambda: video("mp4", "libsvtav1", frames=12)),
    "mp4 of mpeg4": ("video/mp4", lambda: video("mp4", "mpeg4")),
    "mov": ("video/quicktime", lambda: video("mov", "libx264")),
    "webm": ("video/webm", lambda: video("webm", "libvpx")),
    "webm of vp9": ("video/webm", lambda: video("webm", "libvpx-vp9", frames=20)),
    "webm, live": ("video/webm", lambda: video("webm", "libvpx", {"live": "1"})),
    "mkv": ("video/x-matroska", lambda: video("matroska", "libx264")),
    "3gp": ("video/3gpp", lambda: video("3gp", "libx264")),
    "ts": ("video/mp2t", lambda: video("mpegts", "libx264")),
    "avi": ("video/x-msvideo", lambda: video("avi", "mpeg4")),
    "mp3": ("audio/mpeg", lambda: sound("mp3", "libmp3lame", "s16p", seconds=1)),
    "mp3 without counts": ("audio/mpeg", plain_mp3),
    "wav": ("audio/wav", lambda: sound("wav", "pcm_s16le", "s16", seconds=0.2)),
    "flac": ("audio/flac", lambda: sound("flac", "flac", "s16", seconds=1)),
    "ogg of opus": ("audio/ogg", lambda: sound("ogg", "libopus", "s16", seconds=1)),
    "ogg of vorbis": ("audio/ogg", vorbis),
    "m4a": ("audio/mp4", lambda: sound("ipod", "aac", "fltp", seconds=1)),
    "aac": ("audio/aac", lambda: sound("adts", "aac", "fltp", seconds=1)),
    "aiff": ("audio/aiff", lambda: sound("aiff", "pcm_s16be", "s16", seconds=0.2)),
    "webm of sound": ("audio/webm", lambda: sound("webm", "libopus", "s16", seconds=1)),
    "mka": ("audio/x-matroska", lambda: sound("matroska", "libopus", "s16", seconds=1)),
    "mov of sound": ("audio/quicktime", lambda: sound("mov", "aac", "fltp", seconds=1)),
    "3gp of sound": ("audio/3gpp", lambda: sound("3gp", "aac", "fltp", seconds=1)),
    "glb": ("model/gltf-binary", glb),
    "gltf": ("model/gltf+json", gltf),
    "obj": ("model/obj", obj),
    "ply": ("model/ply", lambda: ply("binary_little_endian")),
    "ply, big-endian": ("model/ply", lambda: ply("binary_big_endian")),
    "ply in text": ("model/ply", lambda: ply("ascii")),
    "fbx": ("model/fbx", models.fbx_binary),
    "fbx of 2019": ("model/fbx", lambda: models.fbx_binary(7700)),
    "fbx in text": ("model/fbx", models.fbx_text),
    "stl": ("model/stl", models.stl_binary),
    "stl in text": ("model/stl", models.stl_text),
    "usdz": ("model/vnd.usdz+zip", models.usdz),
    "3mf": ("model/3mf", models.three_mf),
    "mtl": ("model/mtl", models.mtl),
    "spz": ("model/spz", models.spz),
    "splat": ("model/splat", models.splat),
    "zip": ("application/zip", lambda: archive(zipfile.ZIP_DEFLATED)),
    "zip, unpacked": ("application/zip", lambda: archive(zipfile.ZIP_STORED)),
    "json": ("application/json", documents.config),
    "lottie": ("application/json", documents.lottie),
    "vtt": ("text/vtt", documents.vtt),
    "srt": ("application/x-subrip", documents.srt),
    "csv": ("text/csv", documents.csv),
    "text": ("text/plain", documents.plain_text),
    "safetensors": ("application/x-safetensors", documents.weights),
    "npy": ("application/x-npy", documents.array),
    "npz": ("application/x-npz", documents.arrays),
}
"""Content type and maker by name of the sample."""


def detected_types(content_type: str) -> set[str]:
    """Return the types that the first bytes of a type may show."""
    return {content_type, *ALSO_DETECTED_AS.get(content_type, ())}


@functools.cache
def media_sample(name: str) -> MediaSample:
    """Make a sample, once per process."""
    content_type, maker = MAKERS[name]
    return MediaSample(content_type, maker())
