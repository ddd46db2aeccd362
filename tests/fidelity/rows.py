"""A row of the fidelity table: a source image, its reference from another library, and the allowed difference."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageCms, ImageOps

from schemas.jobs import Profile

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class Bounds:
    """The smallest similarity and the largest differences allowed (see distance.py), and the reason."""

    name: str
    ssim: float
    delta_e: float
    shift: float
    why: str


# Measured on correct images: SSIM 0.945 to 0.98, ΔE 0.8 to 2.1, shift 0.1 to 1.2. With this test image, ignoring a P3
# profile gives a shift of 3.4, ignoring a transfer curve one of 27.
JPEG = Bounds("JPEG", 0.93, 2.5, 1.5, "quality 85 halves the colours' resolution: edges blur, areas keep their colour")
WEBP = Bounds("WebP", 0.93, 3.0, 1.5, "as JPEG, in a narrower range of values; alpha is exact to one step")
DEEP = Bounds("deep", 0.93, 2.5, 1.5, "as JPEG; rounding to 8 bits is invisible")
TABLE = Bounds("table", 0.93, 3.0, 2.0, "as JPEG; libraries interpolate a profile's table slightly differently")
PALETTE = Bounds("few colours", 0.80, 11.0, 2.0, "JPEG and WebP smooth the dither of a palette; average colours stay")
ANIMATED = Bounds("moving", 0.90, 4.5, 2.0, "as WebP; later frames are encoded as differences, less accurately")
KEPT = Bounds("kept", 1.0, 0.0, 0.0, "the same bytes")
ALL = (JPEG, WEBP, DEEP, TABLE, PALETTE, ANIMATED, KEPT)


@dataclass(frozen=True)
class Row:
    """`make` returns the file; `read` decodes its frames with another library: RGBA, 8 bits, upright, sRGB."""

    name: str
    content_type: str
    make: Callable[[], bytes]
    becomes: str = "image/jpeg"
    bounds: Bounds = JPEG
    read: Callable[[bytes], list[np.ndarray]] = field(default=lambda content: frames_of(content))  # noqa: PLW0108 - it is defined below
    delays: tuple[int, ...] | None = None
    plays: int | None = None
    profile: Profile = field(default_factory=Profile)


def frames_of(content: bytes) -> list[np.ndarray]:
    """Decode with Pillow: every frame composited, upright, converted to sRGB by LittleCMS."""
    with Image.open(io.BytesIO(content)) as image:
        found = []
        for at in range(getattr(image, "n_frames", 1)):
            image.seek(at)
            found.append(rgba(image.copy(), image.info.get("icc_profile")))
    return found


def rgba(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """Return an image as RGBA, 8 bits, sRGB."""
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
    """Return an 8-bit RGB or grey image as opaque RGBA."""
    if colour.ndim == 2:
        colour = np.repeat(colour[..., None], 3, axis=2)
    return np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)])
