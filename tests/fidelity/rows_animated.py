"""Animations: frames composited as in a browser, timing and loop count; and animations that are kept unchanged."""

import io

import numpy as np
from PIL import Image, ImageDraw

from tests.fidelity.pictures import HEIGHT, WIDTH, chart, soft_disc, to_uint8
from tests.fidelity.rows import ANIMATED, KEPT, PALETTE, WEBP, Row

DELAYS = (80, 120, 0, 10, 20, 400)
PLAYED = (80, 120, 100, 100, 20, 400)
"""Browsers show 10 ms and less as 100 ms."""


def scenes(*, alpha: bool = False, grain: float = 4) -> list[Image.Image]:
    """Return frames with a moving disc, with `alpha` on transparent. Few colours, no partial alpha: exact in GIF."""
    ground = Image.fromarray(to_uint8(chart(grain))).quantize(64, dither=Image.Dither.NONE).convert("RGBA")
    found = []
    for at in range(len(DELAYS)):
        scene, spot = ground.copy(), (30 * at, 40 + 10 * at, 30 * at + 130, 170 + 10 * at)
        if alpha:
            hole = Image.new("L", scene.size)
            ImageDraw.Draw(hole).ellipse(spot, 255)
            scene.putalpha(hole)
        else:
            ImageDraw.Draw(scene).ellipse(spot, (230, 170, 40 * at, 255))
        found.append(scene)
    return found


def drifting(*, alpha: bool) -> list[Image.Image]:
    """Return frames of the moving test image in full colour, with partial alpha, which WebP has and GIF has not."""
    cover = to_uint8(soft_disc() if alpha else np.ones((HEIGHT, WIDTH)))
    return [Image.fromarray(np.dstack([np.roll(to_uint8(chart()), 16 * at, 1), cover])) for at in range(len(DELAYS))]


def animation(kind: str, images: list[Image.Image], **options: object) -> bytes:
    buffer = io.BytesIO()
    first, *others = images
    first.save(buffer, kind, save_all=True, append_images=others, duration=list(DELAYS), **options)
    return buffer.getvalue()


def still() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(chart())).quantize(256).save(buffer, "GIF")
    return buffer.getvalue()


def gif(name: str, plays: int = 0, *, alpha: bool = False, **options: object) -> Row:
    """Return a row. GIF counts repetitions, WebP plays (one more); 0 is infinite in both, no count means once."""

    def make() -> bytes:
        return animation("GIF", scenes(alpha=alpha), **({"loop": 0} | options if plays == 0 else options))

    return Row(f"GIF, {name}", "image/gif", make, "image/webp", PALETTE, delays=PLAYED, plays=plays)


ROWS = [
    Row("GIF, still", "image/gif", still, bounds=PALETTE),
    gif("animated, infinite"),
    gif("animated, no loop count: once", plays=1),
    gif("animated, repeated 3 times: 4 plays", plays=4, loop=3),
    gif("transparent, frames stay (disposal 1)", alpha=True, disposal=1),
    gif("transparent, cleared (disposal 2)", alpha=True, disposal=2),
    gif("restored (disposal 3), mixed", disposal=[1, 3, 3, 3, 2, 1]),
    Row(
        "WebP, animated, 2 plays",
        "image/webp",
        lambda: animation("WEBP", drifting(alpha=False), loop=2, lossless=True),
        "image/webp",
        ANIMATED,
        delays=PLAYED,
        plays=2,
    ),
    Row(
        "WebP, animated, half transparent",
        "image/webp",
        lambda: animation("WEBP", drifting(alpha=True), loop=0, lossless=True),
        "image/webp",
        WEBP,
        delays=PLAYED,
        plays=0,
    ),
    Row("APNG: kept", "image/png", lambda: animation("PNG", scenes(), loop=0), "image/png", KEPT, delays=PLAYED),
    Row(
        "AVIF sequence: kept",
        "image/avif",
        lambda: animation("AVIF", scenes(), quality=60),
        "image/avif",
        KEPT,
        delays=PLAYED,
    ),
]
