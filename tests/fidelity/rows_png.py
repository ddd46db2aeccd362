"""PNG: every bit depth and colour type, forms of transparency, colour spaces given by chunks."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.fidelity.pictures import chart, green_band, soft_disc, to_uint8, to_uint16
from tests.fidelity.png_files import GREY, GREY_ALPHA, RGB, RGB_ALPHA, chunk, interlaced, png, saved
from tests.fidelity.profiles import DISPLAY_P3, SRGB_CURVE, in_space, profile
from tests.fidelity.rows import DEEP, KEPT, PALETTE, WEBP, Row, opaque

P3_IN_CHRM = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def with_alpha(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([picture, alpha])


def deep(picture: np.ndarray) -> list[np.ndarray]:
    """Return 16 bits as 8-bit RGBA."""
    small = np.rint(picture.astype(float) / 257).astype(np.uint8)
    if small.ndim == 2:
        return [opaque(small)]
    if small.shape[2] == 2:
        return [np.dstack([np.repeat(small[..., :1], 3, axis=2), small[..., 1]])]
    return [small if small.shape[2] == 4 else opaque(small)]


def original(picture: np.ndarray) -> object:
    """Return a reader whose reference is the original image, because no other library applies these chunks."""
    return lambda _: [opaque(to_uint8(picture))]


def palette(colours: int) -> Image.Image:
    return Image.fromarray(to_uint8(chart(3))).quantize(colours, dither=Image.Dither.NONE)


def palette_with_alpha() -> bytes:
    """Return a palette PNG whose first 128 colours are semi-transparent."""
    return saved(palette(256), transparency=bytes([140] * 128 + [255] * 128))


def colour_key(picture: np.ndarray) -> bytes:
    """Return a PNG in which one colour, that of the sixth patch, is transparent."""
    picture = picture.copy()
    picture[16:48, 176:208] = (1, 2, 3)
    return saved(Image.fromarray(picture), transparency=(1, 2, 3))


def keyed_grey() -> bytes:
    picture = to_uint8(green_band(chart())).copy()
    picture[16:48, 176:208] = 7
    return saved(Image.fromarray(picture), transparency=7)


def keyed_grey_read(content: bytes) -> list[np.ndarray]:
    grey = np.asarray(Image.open(io.BytesIO(content)))
    return [np.dstack([grey, grey, grey, np.where(grey == 7, 0, 255).astype(np.uint8)])]


def linear() -> bytes:
    light = np.where(chart() <= 0.04045, chart() / 12.92, ((chart() + 0.055) / 1.055) ** 2.4)
    return png(to_uint16(light), RGB, chunk(b"gAMA", struct.pack(">I", 100_000)))


def turned() -> bytes:
    tags = Image.Exif()
    tags[0x112] = 6
    return saved(Image.fromarray(to_uint8(chart())), exif=tags)


def grey() -> Image.Image:
    return Image.fromarray(to_uint8(green_band(chart())))


def bilevel() -> bytes:
    return saved(Image.fromarray(to_uint8(chart(40))).convert("1"))


def wide() -> np.ndarray:
    return in_space(chart(), DISPLAY_P3, SRGB_CURVE)


def p3(*chunks: bytes) -> bytes:
    return png(to_uint8(wide()), RGB, *chunks)


GAMMA = chunk(b"gAMA", struct.pack(">I", 45455))
WIDE = profile(SRGB_CURVE, DISPLAY_P3, version=4)
PROFILE = chunk(b"iCCP", b"p3\0\0" + zlib.compress(WIDE))

ROWS = [
    Row("PNG, RGB", "image/png", lambda: saved(Image.fromarray(to_uint8(chart())))),
    Row(
        "PNG, RGB 16 bits",
        "image/png",
        lambda: png(to_uint16(chart()), RGB),
        bounds=DEEP,
        read=lambda _: deep(to_uint16(chart())),
    ),
    Row("PNG, grey", "image/png", lambda: saved(grey())),
    Row("PNG, grey 16 bits", "image/png", lambda: png(to_uint16(green_band(chart())), GREY), bounds=DEEP),
    Row(
        "PNG, grey and alpha",
        "image/png",
        lambda: png(with_alpha(to_uint8(green_band(chart())), to_uint8(soft_disc())), GREY_ALPHA),
        "image/webp",
        WEBP,
    ),
    Row(
        "PNG, grey and alpha 16 bits",
        "image/png",
        lambda: png(with_alpha(to_uint16(green_band(chart())), to_uint16(soft_disc())), GREY_ALPHA),
        "image/webp",
        WEBP,
        read=lambda _: deep(with_alpha(to_uint16(green_band(chart())), to_uint16(soft_disc()))),
    ),
    Row(
        "PNG, RGB and alpha",
        "image/png",
        lambda: png(with_alpha(to_uint8(chart()), to_uint8(soft_disc())), RGB_ALPHA),
        "image/webp",
        WEBP,
    ),
    Row(
        "PNG, RGB and alpha 16 bits",
        "image/png",
        lambda: png(with_alpha(to_uint16(chart()), to_uint16(soft_disc())), RGB_ALPHA),
        "image/webp",
        WEBP,
        read=lambda _: deep(with_alpha(to_uint16(chart()), to_uint16(soft_disc()))),
    ),
    Row(
        "PNG, opaque alpha",
        "image/png",
        lambda: png(with_alpha(to_uint8(chart()), np.full((240, 288), 255, np.uint8)), RGB_ALPHA),
    ),
    Row("PNG, palette", "image/png", lambda: saved(palette(256)), bounds=PALETTE),
    Row("PNG, palette with alpha (tRNS)", "image/png", palette_with_alpha, "image/webp", PALETTE),
    Row("PNG, one colour transparent (tRNS)", "image/png", lambda: colour_key(to_uint8(chart())), "image/webp", WEBP),
    Row("PNG, grey, one transparent (tRNS)", "image/png", keyed_grey, "image/webp", WEBP, read=keyed_grey_read),
    Row(
        "PNG, 1 bit: kept",
        "image/png",
        lambda: saved(Image.fromarray(to_uint8(chart(40))).convert("1")),
        "image/png",
        KEPT,
    ),
    Row(
        "PNG, Display P3 and alpha",
        "image/png",
        lambda: png(
            with_alpha(to_uint8(in_space(chart(), DISPLAY_P3, SRGB_CURVE)), to_uint8(soft_disc())), RGB_ALPHA, PROFILE
        ),
        "image/webp",
        WEBP,
    ),
    Row(
        "PNG, Display P3 and alpha 16 bits",
        "image/png",
        lambda: png(
            with_alpha(to_uint16(in_space(chart(), DISPLAY_P3, SRGB_CURVE)), to_uint16(soft_disc())), RGB_ALPHA, PROFILE
        ),
        "image/webp",
        WEBP,
        read=lambda _: [np.dstack([to_uint8(chart()), to_uint8(soft_disc())])],
    ),
    Row(
        "PNG, grey profile",
        "image/png",
        lambda: saved(grey(), icc_profile=profile(1.8)),
    ),
    Row("PNG, linear light (gAMA) 16 bits", "image/png", linear, read=original(chart())),
    Row(
        "PNG, P3 by gAMA and cHRM",
        "image/png",
        lambda: p3(GAMMA, chunk(b"cHRM", struct.pack(">8I", *P3_IN_CHRM))),
        read=original(chart()),
    ),
    Row("PNG, P3 by cICP", "image/png", lambda: p3(chunk(b"cICP", bytes([12, 13, 0, 1]))), read=original(chart())),
    Row(
        "PNG, sRGB chunk overrides gAMA",
        "image/png",
        lambda: png(to_uint8(chart()), RGB, chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))),
    ),
    Row("PNG, orientation 6 (eXIf)", "image/png", turned),
    Row("PNG, interlaced", "image/png", lambda: interlaced(to_uint8(chart()))),
]
