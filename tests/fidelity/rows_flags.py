"""What files say about their meaning in flags: colour spaces by number, ranges, alpha, and how frames are composed."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from tests.fidelity.animation_files import Piece, apng_of, gif_of, saved, webp_of
from tests.fidelity.pictures import HEIGHT, WIDTH, chart, soft_disc, to_uint8, to_uint16
from tests.fidelity.png_files import RGB, chunk, png

SIZE = (WIDTH, HEIGHT)
ADOBE = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@dataclass(frozen=True)
class Flagged:
    """A file that Chromium shows. `kept`: it is stored as it is."""

    name: str
    content_type: str
    make: Callable[[], bytes]
    animated: bool = False
    kept: bool = False


def rgba(shift: int = 0, *, soft: bool = False) -> np.ndarray:
    cover = soft_disc() if soft else np.ones((HEIGHT, WIDTH))
    return np.dstack([np.roll(to_uint8(chart(0.6)), shift, 1), to_uint8(cover)])


def part(x: int, y: int, width: int, height: int, *, hole: bool = False, soft: bool = False) -> np.ndarray:
    """Return a part of the test image; `hole`: transparent in its middle, `soft`: half transparent there."""
    piece = rgba(17)[y : y + height, x : x + width].copy()
    if hole or soft:
        piece[height // 4 : height // 2, width // 4 : width // 2, 3] = 0 if hole else 120
    return piece


def pieces(disposals: tuple[int, ...], blends: tuple[int, ...] = (1, 1, 1, 1), *, full: bool = True) -> list[Piece]:
    """Return four frames, all but perhaps the first smaller than the canvas."""
    first = rgba() if full else part(40, 20, 180, 150)
    found = [
        Piece(first, *((0, 0) if full else (40, 20)), 120),
        Piece(part(0, 0, 100, 90, hole=True), 30, 40, 80),
        Piece(part(60, 60, 140, 120, hole=True), 100, 70, 50),
        Piece(part(10, 100, 90, 60), 150, 20, 200),
    ]
    return [
        Piece(piece.picture, piece.x, piece.y, piece.milliseconds, disposal, blend)
        for piece, disposal, blend in zip(found, disposals, blends, strict=True)
    ]


def repeated() -> list[Piece]:
    """Return frames of which some are equal to their neighbours: encoders store these once."""
    pictures = [rgba(), rgba(), rgba(16), rgba(16), rgba(16), rgba(32)]
    return [Piece(picture, milliseconds=40 + 10 * at, disposal=0, blend=0) for at, picture in enumerate(pictures)]


def tagged(*chunks: tuple[bytes, bytes], deep: bool = False) -> bytes:
    picture = to_uint16(chart(0.6)) if deep else to_uint8(chart(0.6))
    return png(picture, RGB, *(chunk(name, body) for name, body in chunks))


def gamma(power: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", power)


def primaries(values: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def cicp(colours: int, transfer: int, full_range: int = 1) -> bytes:
    return tagged((b"cICP", bytes([colours, transfer, 0, full_range])))


def avif(codes: tuple[int, int, int, int] | None = None, picture: np.ndarray | None = None, **options: object) -> bytes:
    """Return an AVIF whose `colr` box is changed to primaries, transfer, matrix, and full range."""
    content = saved(
        to_uint8(chart(0.6)) if picture is None else picture, "AVIF", quality=95, subsampling="4:4:4", **options
    )
    if codes is None:
        return content
    at = content.index(b"colrnclx") + 8
    return content[:at] + struct.pack(">3HB", *codes[:3], codes[3] << 7) + content[at + 7 :]


def rgb_jpeg(*, marker: bool) -> bytes:
    """Return a JPEG of RGB, as Adobe's marker says, or the names of its components."""
    content = saved(to_uint8(chart(0.6)), "JPEG", quality=98, keep_rgb=True)
    at = content.find(b"\xff\xee")
    if marker or at < 0:
        return content
    return content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]


def bmp(*, alpha: bool, top_down: bool = False) -> bytes:
    """Return a BMP of 32 bits, with an alpha channel by its header (BITMAPV4HEADER), or with an unused byte."""
    picture = rgba(soft=True)[..., [2, 1, 0, 3]]
    rows = (picture if top_down else picture[::-1]).tobytes()
    height = -HEIGHT if top_down else HEIGHT
    if alpha:
        masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
        info = struct.pack("<IiiHHIIiiII", 108, WIDTH, height, 1, 32, 3, len(rows), 2835, 2835, 0, 0) + masks
    else:
        info = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, 32, 0, len(rows), 2835, 2835, 0, 0)
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + rows


def interlaced_gif() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(chart(0.6))).quantize(256).save(buffer, "GIF", interlace=True)
    return buffer.getvalue()


def png_row(name: str, *chunks: tuple[bytes, bytes], deep: bool = False) -> Flagged:
    return Flagged(f"PNG, {name}", "image/png", partial(tagged, *chunks, deep=deep))


def gif_row(name: str, frames: Callable[[], list[Piece]], **options: object) -> Flagged:
    return Flagged(f"GIF, {name}", "image/gif", lambda: gif_of(SIZE, frames(), **options), animated=True)


def webp_row(name: str, frames: Callable[[], list[Piece]], **options: object) -> Flagged:
    return Flagged(f"WebP, {name}", "image/webp", lambda: webp_of(SIZE, frames(), **options), animated=True)


def apng_row(name: str, frames: Callable[[], list[Piece]], **options: object) -> Flagged:
    return Flagged(f"APNG, {name}", "image/png", lambda: apng_of(SIZE, frames(), **options), animated=True, kept=True)


PNG_ROWS = [
    png_row("gAMA 1.0 alone", gamma(100_000)),
    png_row("gAMA 1/1.8 alone", gamma(55_556)),
    png_row("gAMA 1/2.2 alone", gamma(45_455)),
    png_row("gAMA 1/2.6 alone, 16 bits", gamma(38_462), deep=True),
    png_row("cHRM of Adobe RGB alone", primaries(ADOBE)),
    png_row("gAMA 1/2.2 and cHRM of Adobe RGB", gamma(45_455), primaries(ADOBE)),
    png_row("gAMA 1/1.8 and cHRM of Adobe RGB", gamma(55_556), primaries(ADOBE)),
    png_row("gAMA 1.0 and cHRM of sRGB", gamma(100_000), primaries(SRGB)),
    png_row("sRGB, gAMA 1.0 and cHRM of Adobe RGB", (b"sRGB", b"\0"), gamma(100_000), primaries(ADOBE)),
    *(
        Flagged(f"PNG, cICP {colours} {transfer}", "image/png", partial(cicp, colours, transfer))
        for colours, transfer in ((1, 1), (1, 4), (1, 5), (1, 6), (1, 7), (1, 8), (1, 9), (1, 11), (1, 13), (1, 14))
    ),
    *(
        Flagged(f"PNG, cICP {colours} {transfer}", "image/png", partial(cicp, colours, transfer))
        for colours, transfer in ((2, 2), (4, 4), (5, 1), (6, 6), (9, 1), (9, 14), (9, 15), (10, 8), (11, 17), (12, 13))
    ),
    Flagged("PNG, cICP of narrow range", "image/png", partial(cicp, 1, 13, 0)),
]
AVIF_ROWS = [
    Flagged("AVIF, narrow range", "image/avif", partial(avif, range="limited")),
    Flagged("AVIF, 4:2:0 of full range", "image/avif", lambda: saved(to_uint8(chart(0.6)), "AVIF", quality=95)),
    *(
        Flagged(f"AVIF, nclx {' '.join(map(str, codes))}", "image/avif", partial(avif, codes))
        for codes in (
            *((1, 13, 1, 1), (1, 13, 9, 1), (1, 13, 6, 0), (9, 13, 6, 1), (12, 13, 6, 1), (1, 4, 6, 1)),
            *((1, 8, 6, 1), (1, 1, 6, 1), (9, 14, 9, 1), (2, 2, 2, 1), (1, 2, 6, 1)),
            *((1, 5, 6, 1), (1, 7, 6, 1), (1, 17, 6, 1), (4, 13, 6, 1), (5, 13, 6, 1), (11, 13, 6, 1), (22, 13, 6, 1)),
        )
    ),
    Flagged("AVIF, alpha", "image/avif", lambda: avif(picture=rgba(soft=True))),
    Flagged("AVIF, alpha premultiplied", "image/avif", lambda: avif(picture=rgba(soft=True), alpha_premultiplied=True)),
]
STILL_ROWS = [
    Flagged("JPEG, RGB by Adobe's marker", "image/jpeg", partial(rgb_jpeg, marker=True)),
    Flagged("JPEG, RGB by component names", "image/jpeg", partial(rgb_jpeg, marker=False)),
    Flagged("BMP, 32 bits with alpha", "image/bmp", partial(bmp, alpha=True)),
    Flagged("BMP, 32 bits with an unused byte", "image/bmp", partial(bmp, alpha=False)),
    Flagged("BMP, from top to bottom", "image/bmp", partial(bmp, alpha=True, top_down=True)),
    Flagged("GIF, interlaced", "image/gif", interlaced_gif),
]
ANIMATED_ROWS = [
    gif_row("frames smaller than the canvas, disposal 0", lambda: pieces((0, 0, 0, 0))),
    gif_row("frames smaller than the canvas, disposal 1", lambda: pieces((1, 1, 1, 1))),
    gif_row("frames smaller than the canvas, disposal 2", lambda: pieces((2, 2, 2, 2))),
    gif_row("frames smaller than the canvas, disposal 3", lambda: pieces((1, 3, 3, 1))),
    gif_row("frames smaller than the canvas, mixed disposal", lambda: pieces((1, 2, 3, 0))),
    gif_row("first frame removed by disposal 3", lambda: pieces((3, 1, 2, 0))),
    gif_row("first frame smaller than the canvas", lambda: pieces((1, 1, 2, 1), full=False), background=7),
    gif_row("equal neighbours", repeated),
    gif_row("played twice more", lambda: pieces((1, 1, 1, 1)), plays=2),
    webp_row("frames smaller than the canvas", lambda: pieces((0, 0, 0, 0))),
    webp_row("frames that are removed", lambda: pieces((1, 1, 1, 1))),
    webp_row("frames that replace", lambda: pieces((0, 1, 0, 1), (0, 0, 0, 0))),
    webp_row("frames that blend and replace", lambda: pieces((0, 1, 1, 0), (1, 0, 1, 0))),
    webp_row("background colour", lambda: pieces((1, 1, 0, 0), full=False), background=0xFF2080F0),
    webp_row("half transparent", lambda: [Piece(rgba(8 * at, soft=True), blend=0, disposal=1) for at in range(3)]),
    webp_row("equal neighbours", repeated),
    apng_row("frames smaller than the canvas", lambda: pieces((0, 1, 2, 0), (0, 1, 1, 0))),
    apng_row("hidden default image", lambda: pieces((0, 1, 2, 0), (0, 1, 1, 0)), hidden=rgba(90)),
]
ROWS = [*PNG_ROWS, *AVIF_ROWS, *STILL_ROWS, *ANIMATED_ROWS]
