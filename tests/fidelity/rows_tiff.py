"""TIFF: formats that only TIFF has. References by tifffile, by Pillow, or the original image."""

import io

import numpy as np
import tifffile
from PIL import Image

from tests.fidelity.pictures import chart, green_band, soft_disc, to_uint8, to_uint16
from tests.fidelity.profiles import DISPLAY_P3, SRGB_CURVE, decoded, from_lab, in_space, profile, to_lab
from tests.fidelity.rows import DEEP, KEPT, TABLE, WEBP, Row, opaque
from tests.fidelity.rows_jpeg import chart_cmyk, cmyk_profile, rgba_from_cmyk


def tiff(picture: np.ndarray, photometric: str = "rgb", **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, photometric=photometric, metadata=None, **options)
    return buffer.getvalue()


def array(content: bytes) -> np.ndarray:
    return tifffile.imread(io.BytesIO(content))


def read_linear(content: bytes) -> list[np.ndarray]:
    """Decode floating point, which is linear light, and encode it as sRGB."""
    values = array(content).astype(float)
    coded = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    return [opaque(to_uint8(coded))]


def read_premultiplied(content: bytes) -> list[np.ndarray]:
    """Decode premultiplied colours: divide them by alpha."""
    values = array(content).astype(float)
    cover = np.maximum(values[..., 3:], 1) / 255
    return [np.dstack([np.rint((values[..., :3] / cover).clip(0, 255)), values[..., 3]]).astype(np.uint8)]


def straight_alpha() -> bytes:
    return tiff(np.dstack([to_uint8(chart()), to_uint8(soft_disc())]), extrasamples=["unassalpha"])


def premultiplied() -> bytes:
    cover = soft_disc()[..., None]
    return tiff(np.dstack([to_uint8(chart() * cover), to_uint8(cover)]), extrasamples=["assocalpha"])


def cielab(depth: int) -> bytes:
    """Return CIELAB (D50) as TIFF encodes it: L over the full range, a and b signed."""
    values = to_lab(chart())
    top, scale = (255, 1) if depth == 8 else (65535, 256)
    coded = np.dstack([values[..., :1] * top / 100, values[..., 1:] * scale])
    signed = np.int8 if depth == 8 else np.int16
    unsigned = np.uint8 if depth == 8 else np.uint16
    lightness = np.rint(coded[..., :1]).astype(unsigned)
    return tiff(np.dstack([lightness, np.rint(coded[..., 1:]).astype(signed).view(unsigned)]), "cielab")


def read_cielab(content: bytes) -> list[np.ndarray]:
    coded = array(content)
    eight = coded.dtype == np.uint8
    signed = coded[..., 1:].astype(np.uint8 if eight else np.uint16).view(np.int8 if eight else np.int16)
    values = np.dstack([coded[..., :1] * (100 / (255 if eight else 65535)), signed / (1 if eight else 256)])
    return [opaque(to_uint8(from_lab(values)))]


def turned() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(chart())).save(buffer, "TIFF", tiffinfo={0x112: 8})
    return buffer.getvalue()


def bilevel() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(chart(40))).convert("1").save(buffer, "TIFF")
    return buffer.getvalue()


WIDE = profile(SRGB_CURVE, DISPLAY_P3, version=4)
ROWS = [
    Row("TIFF, RGB", "image/tiff", lambda: tiff(to_uint8(chart()))),
    Row(
        "TIFF, RGB 16 bits",
        "image/tiff",
        lambda: tiff(to_uint16(chart())),
        bounds=DEEP,
        read=lambda content: [opaque(np.rint(array(content) / 257).astype(np.uint8))],
    ),
    Row(
        "TIFF, RGB 32 bits",
        "image/tiff",
        lambda: tiff((chart() * 4294967295).astype(np.uint32)),
        bounds=DEEP,
        read=lambda content: [opaque(to_uint8(array(content) / 4294967295))],
    ),
    Row(
        "TIFF, RGB float",
        "image/tiff",
        lambda: tiff(decoded(chart(), SRGB_CURVE).astype(np.float32)),
        bounds=DEEP,
        read=read_linear,
    ),
    Row(
        "TIFF, grey, white is zero",
        "image/tiff",
        lambda: tiff(255 - to_uint8(green_band(chart())), "miniswhite"),
        read=lambda content: [opaque(255 - array(content))],
    ),
    Row("TIFF, 1 bit: kept", "image/tiff", bilevel, "image/tiff", KEPT),
    Row("TIFF, alpha premultiplied", "image/tiff", premultiplied, "image/webp", WEBP, read=read_premultiplied),
    Row(
        "TIFF, alpha straight",
        "image/tiff",
        straight_alpha,
        "image/webp",
        WEBP,
    ),
    Row(
        "TIFF, CMYK with profile",
        "image/tiff",
        lambda: tiff(chart_cmyk(), "separated", iccprofile=cmyk_profile()),
        bounds=TABLE,
        read=lambda content: rgba_from_cmyk(array(content)),
    ),
    Row(
        "TIFF, CMYK 16 bits",
        "image/tiff",
        lambda: tiff(chart_cmyk().astype(np.uint16) * 257, "separated"),
        bounds=TABLE,
        read=lambda content: rgba_from_cmyk((array(content) // 257).astype(np.uint8)),
    ),
    Row("TIFF, CIELAB 8 bits", "image/tiff", lambda: cielab(8), bounds=TABLE, read=read_cielab),
    Row("TIFF, CIELAB 16 bits", "image/tiff", lambda: cielab(16), bounds=TABLE, read=read_cielab),
    Row(
        "TIFF, Display P3 16 bits",
        "image/tiff",
        lambda: tiff(to_uint16(in_space(chart(), DISPLAY_P3, SRGB_CURVE)), iccprofile=WIDE),
        bounds=DEEP,
        read=lambda _: [opaque(to_uint8(chart()))],
    ),
    Row("TIFF, orientation 8", "image/tiff", turned),
]
