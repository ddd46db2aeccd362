"""Small videos of the test picture: turned, HDR, transparent, with uneven frame times."""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.video.frame import VideoFrame

from tests.fidelity.pictures import chart, soft_disc, to_uint8

LUMA: Final = np.array([0.2627, 0.6780, 0.0593])
TO_2020: Final = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Linear light of BT.709 as that of BT.2020 (ITU-R BT.2087)."""
PQ, HLG = 16, 18
MATRICES: Final = {
    "as stored": (1, 0, 0, 1),
    "90": (0, 1, -1, 0),
    "180": (-1, 0, 0, -1),
    "270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
}
"""Display matrices (ISO/IEC 14496-12, 8.3.2), by what they do clockwise."""


def of_pixels(pixels: np.ndarray, pixel_format: str = "yuv420p") -> VideoFrame:
    """Return a frame of 8-bit RGB or RGBA, by the matrix of BT.709."""
    frame = VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[2] == 4 else "rgb24")
    return frame.reformat(format=pixel_format, dst_colorspace=1, threads=1)


def picture(pixel_format: str = "yuv420p") -> VideoFrame:
    """Return the test picture."""
    return of_pixels(to_uint8(chart()), pixel_format)


def black(level: int = 0) -> VideoFrame:
    """Return a frame of one dark grey with a little noise."""
    noise = np.random.default_rng(level).integers(0, 3, chart().shape, np.uint8)
    return of_pixels(noise + np.uint8(level))


def transparent() -> VideoFrame:
    """Return the test picture with a soft edge."""
    return of_pixels(np.dstack([to_uint8(chart()), to_uint8(soft_disc())]), "yuva420p")


def hdr(transfer: int) -> VideoFrame:
    """Return the test picture in BT.2020, 10 bits, PQ or HLG, with white at 203 cd/m2 (ITU-R BT.2408)."""
    colour = chart()
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    light = linear @ TO_2020.T * 203
    code = _pq(light) if transfer == PQ else _hlg(light / 1000)
    luma = code @ LUMA
    chroma = [(code[..., 2] - luma) / 1.8814, (code[..., 0] - luma) / 1.4746]
    frame = VideoFrame(colour.shape[1], colour.shape[0], "yuv420p10le")
    planes = [luma * 219 + 16, *(each.reshape(120, 2, 144, 2).mean(axis=(1, 3)) * 224 + 128 for each in chroma)]
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((values.shape[0], plane.line_size // 2), "<u2")
        rows[:, : values.shape[1]] = np.rint(values * 4)
        plane.update(rows.tobytes())
    return frame


def _pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def _hlg(display: np.ndarray) -> np.ndarray:
    brightness = (display @ LUMA)[..., None]
    scene = display * brightness ** ((1 - 1.2) / 1.2)
    upper = 0.17883277 * np.log(np.maximum(12 * scene, 1) - 0.28466892) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


def film(
    container_format: str,
    codec: str,
    frames: Sequence[tuple[VideoFrame, float]],
    *,
    aspect: Fraction | None = None,
    transfer: int = 1,
    options: dict[str, str] | None = None,
) -> bytes:
    """Encode frames, each with its time in seconds. The first one has the pixel format of all."""
    output = io.BytesIO()
    first, _ = frames[0]
    with av.open(output, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = (
            (1, 1, 1) if transfer == 1 else (9, transfer, 9)
        )
        context.color_range = 1
        if aspect is not None:
            stream.sample_aspect_ratio = aspect
        if first.format.name == "yuva420p":
            stream.metadata["alpha_mode"] = "1"  # VideoAlphaMode of Matroska
        for frame, seconds in frames:
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


def turned(content: bytes, how: str) -> bytes:
    """Return an MP4 file with another display matrix."""
    one = 1 << 16
    plain, wanted = (
        struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        for a, b, c, d in (MATRICES["as stored"], MATRICES[how])
    )
    at = content.index(plain, content.index(b"tkhd"))
    return content[:at] + wanted + content[at + len(wanted) :]
