"""WebP, AVIF and HEIC: alpha, profiles, more than 8 bits, colour spaces given by nclx, rotated images."""

import io
from functools import partial

import numpy as np
import pillow_heif
import pyvips
from PIL import Image

from tests.fidelity.pictures import chart, green_band, soft_disc, to_uint8, to_uint16
from tests.fidelity.profiles import DISPLAY_P3, SRGB_CURVE, in_space, profile
from tests.fidelity.rows import DEEP, WEBP, Row, opaque, rgba

WIDE = profile(SRGB_CURVE, DISPLAY_P3, version=4)


def plain() -> Image.Image:
    return Image.fromarray(to_uint8(chart()))


def with_alpha() -> Image.Image:
    return Image.fromarray(np.dstack([to_uint8(chart()), to_uint8(soft_disc())]))


def wide() -> Image.Image:
    return Image.fromarray(to_uint8(in_space(chart(), DISPLAY_P3, SRGB_CURVE)))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def lossless(image: Image.Image, **options: object) -> bytes:
    return saved(image, "WEBP", lossless=True, quality=20, method=0, **options)


def fine_avif(image: Image.Image, **options: object) -> bytes:
    return saved(image, "AVIF", quality=98, subsampling="4:4:4", **options)


def tags(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x112] = orientation
    return found


def heic(image: Image.Image, orientation: int = 1, **options: object) -> bytes:
    if orientation > 1:
        image.info.update(exif=tags(orientation).tobytes())
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **{"quality": -1, "chroma": 444, **options})
    return buffer.getvalue()


def deep_heic() -> bytes:
    buffer = io.BytesIO()
    file = pillow_heif.from_bytes("RGB;16", (288, 240), to_uint16(chart()).tobytes())
    file.save(buffer, quality=-1, chroma=444)
    return buffer.getvalue()


def deep_grey_heic(bits: int) -> bytes:
    buffer = io.BytesIO()
    file = pillow_heif.from_bytes("L;16", (288, 240), to_uint16(green_band(chart())).tobytes())
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    file.save(buffer, quality=-1)
    pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    return buffer.getvalue()


def turned_heic(quarters: int) -> bytes:
    """Return a HEIC whose `irot` box is changed to `quarters` turns to the left (ISO/IEC 23008-12, 6.5.10)."""
    content = heic(Image.fromarray(to_uint8(chart())), 3)
    at = content.index(b"irot") + 4
    assert content[at] == 2
    return content[:at] + bytes([quarters]) + content[at + 1 :]


def rotated_reference(quarters: int) -> list[np.ndarray]:
    """Return the reference of `turned_heic`, whose pixels are stored upside down."""
    return [np.rot90(opaque(to_uint8(chart())), 2 + quarters)]


def read_heic(content: bytes) -> list[np.ndarray]:
    """Decode with pillow-heif (also libheif, because there is no other decoder); colours by LittleCMS."""
    return [
        rgba(image.to_pillow(), image.info.get("icc_profile")) for image in pillow_heif.open_heif(io.BytesIO(content))
    ]


def deep_avif() -> bytes:
    picture = pyvips.Image.new_from_memory(to_uint16(chart()).tobytes(), 288, 240, 3, "ushort")
    return bytes(picture.copy(interpretation="rgb16").heifsave_buffer(compression="av1", bitdepth=10, Q=95, effort=1))


def nclx_avif() -> bytes:
    """Return an AVIF in Display P3 by nclx: the `colr` box of an sRGB file, changed."""
    content = saved(wide(), "AVIF", quality=97, subsampling="4:4:4")
    at = content.index(b"colrnclx") + 8
    return content[:at] + b"\x00\x0c\x00\x0d" + content[at + 4 :]


ROWS = [
    Row("WebP, lossy", "image/webp", lambda: saved(plain(), "WEBP", quality=99)),
    Row(
        "WebP, lossless with alpha",
        "image/webp",
        lambda: lossless(with_alpha(), exact=True),
        "image/webp",
        WEBP,
    ),
    Row("WebP, Display P3", "image/webp", lambda: lossless(wide(), icc_profile=WIDE)),
    Row("WebP, orientation 5", "image/webp", lambda: lossless(plain(), exif=tags(5))),
    Row("AVIF", "image/avif", lambda: fine_avif(plain())),
    Row("AVIF, 10 bits", "image/avif", deep_avif, bounds=DEEP),
    Row("AVIF, alpha", "image/avif", lambda: saved(with_alpha(), "AVIF", quality=98), "image/webp", WEBP),
    Row(
        "AVIF, Display P3",
        "image/avif",
        lambda: fine_avif(wide(), icc_profile=WIDE),
    ),
    Row("AVIF, P3 by nclx", "image/avif", nclx_avif, read=lambda _: [opaque(to_uint8(chart()))]),
    Row("AVIF, rotated (irot, imir)", "image/avif", lambda: saved(plain(), "AVIF", quality=98, exif=tags(7))),
    Row("HEIC", "image/heic", lambda: heic(plain()), read=read_heic),
    Row("HEIC, 4:2:0", "image/heic", lambda: heic(plain(), quality=95, chroma=420), read=read_heic),
    Row("HEIC, grey", "image/heic", lambda: heic(Image.fromarray(to_uint8(green_band(chart())))), read=read_heic),
    Row("HEIC, 10 bits", "image/heic", deep_heic, bounds=DEEP, read=read_heic),
    *(
        Row(
            f"HEIC, grey of {bits} bits",
            "image/heic",
            partial(deep_grey_heic, bits),
            bounds=DEEP,
            read=lambda _: [opaque(to_uint8(green_band(chart())))],
        )
        for bits in (10, 12)
    ),
    Row("HEIC, alpha", "image/heic", lambda: heic(with_alpha()), "image/webp", WEBP, read=read_heic),
    Row("HEIC, Display P3", "image/heic", lambda: heic(wide(), icc_profile=WIDE), read=read_heic),
    Row(
        "HEIC, P3 by nclx",
        "image/heic",
        lambda: heic(wide(), color_primaries=12, transfer_characteristics=13, matrix_coefficients=6, full_range_flag=1),
        read=lambda _: [opaque(to_uint8(chart()))],
    ),
    *(
        Row(
            f"HEIC, rotated (irot) {at}",
            "image/heic",
            partial(turned_heic, at),
            read=partial(lambda at, _: rotated_reference(at), at),
        )
        for at in (1, 2, 3)
    ),
    Row("HEIC, mirrored (imir)", "image/heic", lambda: heic(plain(), 5), read=read_heic),
]
