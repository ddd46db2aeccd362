"""A row of the table: a source, what another library makes of it, and how near the stored picture must come."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageCms, ImageOps

from schemas.jobs import Profile

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class Bounds:
    """The least similarity, the largest differences (see measure.py), and why no less and no more."""

    name: str
    ssim: float
    delta_e: float
    shift: float
    why: str


# Measured on right pictures: SSIM 0.945 to 0.98, ΔE 0.8 to 2.1, shift 0.1 to 1.2. On this soft chart a P3 profile that
# is not followed shifts by 3.4, a curve that is missed by 27.
JPEG = Bounds("JPEG", 0.93, 2.5, 1.5, "quality 85 halves the colours' resolution: edges blur, areas keep their colour")
WEBP = Bounds("WebP", 0.93, 3.0, 1.5, "as JPEG, in a narrower range of values; coverage is exact to one step")
DEEP = Bounds("deep", 0.93, 2.5, 1.5, "as JPEG: what 8 bits round off cannot be seen")
TABLE = Bounds("table", 0.93, 3.0, 2.0, "as JPEG; two libraries interpolate one profile's table a little apart")
SPECKLED = Bounds("few colours", 0.80, 11.0, 2.0, "a palette's speckles, which JPEG and WebP smooth; areas stay")
MOVING = Bounds("moving", 0.90, 4.5, 2.0, "as WebP; later frames are coded as differences, more coarsely")
SAME = Bounds("kept", 1.0, 0.0, 0.0, "the very file")
ALL = (JPEG, WEBP, DEEP, TABLE, SPECKLED, MOVING, SAME)


@dataclass(frozen=True)
class Row:
    """`make` gives the file, `read` its frames as RGBA bytes, upright and in sRGB, by another library's decoder."""

    name: str
    content_type: str
    make: Callable[[], bytes]
    becomes: str = "image/jpeg"
    bounds: Bounds = JPEG
    read: Callable[[bytes], list[np.ndarray]] = field(default=lambda content: frames_of(content))  # noqa: PLW0108 - it stands below
    delays: tuple[int, ...] | None = None
    plays: int | None = None
    profile: Profile = field(default_factory=Profile)


def frames_of(content: bytes) -> list[np.ndarray]:
    """Decode by Pillow: every frame composited, turned upright, its profile followed by LittleCMS."""
    with Image.open(io.BytesIO(content)) as image:
        found = []
        for at in range(getattr(image, "n_frames", 1)):
            image.seek(at)
            found.append(rgba(image.copy(), image.info.get("icc_profile")))
    return found


def rgba(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """One picture as RGBA bytes in sRGB."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or upright.mode == "I":
        upright = Image.fromarray(np.rint(np.asarray(upright).astype(float) / 257).astype(np.uint8))
    if profile:
        alpha = upright.getchannel("A") if "A" in upright.getbands() else None
        colour = upright.convert("L") if upright.mode == "LA" else upright.convert("RGB") if alpha else upright
        upright = ImageCms.profileToProfile(colour, io.BytesIO(profile), SRGB_PROFILE, outputMode="RGB")
        if alpha:
            upright.putalpha(alpha)
    return np.asarray(upright.convert("RGBA"))


def opaque(colour: np.ndarray) -> np.ndarray:
    """RGB or grey bytes as RGBA."""
    if colour.ndim == 2:
        colour = np.repeat(colour[..., None], 3, axis=2)
    return np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)])
