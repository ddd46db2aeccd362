"""JPEG: colour spaces and profiles, variants of CMYK, the eight orientations."""

import io

import numpy as np
import pyvips
from PIL import Image, ImageCms

from tests.fidelity.pictures import chart, green_band, to_uint8
from tests.fidelity.profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO_RGB, SRGB_CURVE, in_space, profile
from tests.fidelity.rows import TABLE, Row, opaque, rgba


def saved(picture: np.ndarray, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture, mode).save(buffer, "JPEG", **{"quality": 98, "subsampling": 0, **options})
    return buffer.getvalue()


def with_orientation(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x112] = orientation
    return saved(to_uint8(chart()), exif=tags)


def cmyk_profile() -> bytes:
    """Return the CMYK profile of libvips."""
    return bytes(pyvips.Image.profile_load("cmyk"))


def chart_cmyk() -> np.ndarray:
    """Return the test image in CMYK."""
    picture = Image.fromarray(to_uint8(chart()))
    return np.asarray(
        ImageCms.profileToProfile(
            picture, ImageCms.createProfile("sRGB"), io.BytesIO(cmyk_profile()), outputMode="CMYK"
        )
    )


def rgba_from_cmyk(picture: np.ndarray) -> list[np.ndarray]:
    return [rgba(Image.fromarray(picture, "CMYK"), cmyk_profile())]


def decoded_inks(content: bytes) -> list[np.ndarray]:
    """Decode with Pillow, which treats every CMYK JPEG as inverted, as Adobe writes them; these are inverted."""
    with Image.open(io.BytesIO(content)) as image:
        return rgba_from_cmyk(np.asarray(image))


def without_adobe() -> bytes:
    """Return a CMYK JPEG without Adobe's marker; browsers, Pillow and libvips treat it as inverted too."""
    content = saved(chart_cmyk(), "CMYK")
    at = content.index(b"\xff\xee")
    return content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]


def ycck() -> bytes:
    """Return a YCCK JPEG: CMY as YCbCr, which the last byte of Adobe's marker indicates."""
    picture = chart_cmyk()
    colours = np.asarray(Image.fromarray(255 - picture[..., :3]).convert("YCbCr"))
    planes = np.dstack([255 - colours, picture[..., 3]])  # Pillow inverts all four when it saves
    content = saved(planes, "CMYK")
    at = content.index(b"Adobe")
    return content[: at + 11] + b"\x02" + content[at + 12 :]


ROWS = [
    Row("JPEG, plain", "image/jpeg", lambda: saved(to_uint8(chart()))),
    Row("JPEG, progressive", "image/jpeg", lambda: saved(to_uint8(chart()), progressive=True)),
    Row("JPEG, grey", "image/jpeg", lambda: saved(to_uint8(green_band(chart())))),
    Row(
        "JPEG, Display P3, ICC v4",
        "image/jpeg",
        lambda: saved(
            to_uint8(in_space(chart(), DISPLAY_P3, SRGB_CURVE)), icc_profile=profile(SRGB_CURVE, DISPLAY_P3, version=4)
        ),
    ),
    Row(
        "JPEG, Adobe RGB, ICC v2",
        "image/jpeg",
        lambda: saved(to_uint8(in_space(chart(), ADOBE_RGB, 2.19921875)), icc_profile=profile(2.19921875, ADOBE_RGB)),
    ),
    Row(
        "JPEG, ProPhoto RGB",
        "image/jpeg",
        lambda: saved(to_uint8(in_space(chart(), PROPHOTO_RGB, 1.8)), icc_profile=profile(1.8, PROPHOTO_RGB)),
    ),
    Row(
        "JPEG, colours beyond sRGB (P3)",
        "image/jpeg",
        lambda: saved(to_uint8(chart()), icc_profile=profile(SRGB_CURVE, DISPLAY_P3, version=4)),
    ),
    Row(
        "JPEG, grey with profile",
        "image/jpeg",
        lambda: saved(to_uint8(green_band(chart())), icc_profile=profile(1.8)),
    ),
    Row(
        "JPEG, profile is garbage",
        "image/jpeg",
        lambda: saved(to_uint8(chart()), icc_profile=b"no profile" * 30),
        read=lambda content: [opaque(np.asarray(Image.open(io.BytesIO(content))))],
    ),
    Row(
        "JPEG, CMYK (Adobe) with profile",
        "image/jpeg",
        lambda: saved(chart_cmyk(), "CMYK", icc_profile=cmyk_profile()),
        bounds=TABLE,
    ),
    Row(
        "JPEG, CMYK (Adobe), no profile",
        "image/jpeg",
        lambda: saved(chart_cmyk(), "CMYK"),
        bounds=TABLE,
        read=decoded_inks,
    ),
    Row("JPEG, CMYK without marker", "image/jpeg", without_adobe, bounds=TABLE, read=decoded_inks),
    Row("JPEG, YCCK (Adobe)", "image/jpeg", ycck, bounds=TABLE, read=decoded_inks),
    *(Row(f"JPEG, orientation {at}", "image/jpeg", lambda at=at: with_orientation(at)) for at in range(1, 9)),
]
