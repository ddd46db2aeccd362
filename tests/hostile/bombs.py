"""Decompression bombs: small files that declare, or decode to, far more data than they contain.

BOMBS maps a name to the content type, a function that makes the file, and the expected error code; None: it is stored.
`python -m tests.hostile.bombs FOLDER` writes each file under its name.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.hostile.crafted_documents import (
    bmp,
    exr,
    fbx_of_zeros,
    ico,
    jp2,
    laughs,
    nested_fbx,
    npy,
    psd,
    safetensors,
    spz,
    svg,
    tga,
    three_mf,
)
from tests.hostile.crafted_files import (
    apng,
    gif,
    glb,
    heif,
    jpeg,
    mp4,
    nested_zip,
    overlapping_zip,
    ply,
    png,
    png_chunk,
    tiff,
    webp,
    with_size,
    zeros,
)

SIDE = 100_000
MANY = 1_000_000
GIB = 1 << 30
LIMIT, BROKEN, STORED = "decoder_limit", "corrupted", None

BOMBS: dict[str, tuple[str, Callable[[], bytes], str | None]] = {
    "PNG of 100,000 x 100,000": ("image/png", lambda: png(SIDE), LIMIT),
    "PNG of 20,000 x 20,000 black and white": (
        "image/png",
        lambda: png(20_000, depth=1, colour=0, pixels=zeros(20_000 * 2501)),
        LIMIT,
    ),
    "PNG with a text of 1 GiB": ("image/png", lambda: png(8, png_chunk(b"zTXt", b"a\0\0" + zeros(GIB))), STORED),
    "PNG with 40 texts of 1 GiB": (
        "image/png",
        lambda: png(8, *[png_chunk(b"zTXt", b"a\0\0" + zeros(GIB))] * 40),
        STORED,
    ),
    "PNG with a profile of 1 GiB": ("image/png", lambda: png(8, png_chunk(b"iCCP", b"a\0\0" + zeros(GIB))), STORED),
    "APNG of a million frames": ("image/png", lambda: apng(MANY), LIMIT),
    "JPEG of 65,500 x 65,500": ("image/jpeg", lambda: jpeg(65_500), LIMIT),
    "GIF of 65,535 x 65,535": ("image/gif", lambda: gif(65_535, 1), LIMIT),
    "GIF of a million frames": ("image/gif", lambda: gif(1, MANY), LIMIT),
    "GIF of a million large frames": ("image/gif", lambda: gif(65_535, MANY), LIMIT),
    "WebP of 100,000 x 42,000": ("image/webp", lambda: webp(SIDE, 42_000, 2), LIMIT),
    "WebP of 100,000 x 100,000": ("image/webp", lambda: webp(SIDE, SIDE, 2), LIMIT),
    "WebP of a million frames": ("image/webp", lambda: webp(1, 1, MANY), LIMIT),
    "AVIF of 100,000 x 100,000": ("image/avif", lambda: with_size(heif("av1"), b"ispe", SIDE, SIDE), LIMIT),
    "AVIF of 64 x 64 that declares 9,000 x 9,000": (
        "image/avif",
        lambda: with_size(heif("av1"), b"ispe", 9000, 9000),
        BROKEN,
    ),
    "HEIC of 100,000 x 100,000": ("image/heic", lambda: with_size(heif("hevc"), b"ispe", SIDE, SIDE), LIMIT),
    "TIFF of 100,000 x 100,000": ("image/tiff", lambda: tiff(SIDE), LIMIT),
    "TIFF of 24 bytes a pixel": ("image/tiff", lambda: tiff(9_900, samples=6, bits=32), LIMIT),
    "TIFF of 100,000 pages": ("image/tiff", lambda: tiff(1, SIDE), LIMIT),
    "TIFF whose pages form a loop": ("image/tiff", lambda: tiff(8, 3, loops=True), BROKEN),
    "TIFF whose second page is too large": ("image/tiff", lambda: tiff(8, 2, last=SIDE), LIMIT),
    "BMP of 30,000 x 30,000 in a few bytes": ("image/bmp", lambda: bmp(30_000), LIMIT),
    "TGA of 60,000 x 60,000": ("image/x-tga", lambda: tga(60_000), LIMIT),
    "ICO whose PNG is too large": ("image/vnd.microsoft.icon", lambda: ico(png(SIDE)), LIMIT),
    "JPEG 2000 of 100,000 x 100,000": ("image/jp2", lambda: jp2(SIDE), LIMIT),
    "PSD of 30,000 x 30,000 in RLE": ("image/vnd.adobe.photoshop", lambda: psd(30_000), LIMIT),
    "EXR of 100,000 x 100,000": ("image/x-exr", lambda: exr(SIDE), LIMIT),
    "SVG of a million nested elements": ("image/svg+xml", lambda: svg(b"<g>" * MANY), LIMIT),
    "SVG of a million elements": ("image/svg+xml", lambda: svg(b"<g/>" * MANY), LIMIT),
    "SVG of a billion laughs": ("image/svg+xml", laughs, BROKEN),
    "3MF of a million nested elements": ("model/3mf", lambda: three_mf(b"<a>" * MANY), LIMIT),
    "SPZ that unpacks to 2 GiB": ("model/spz", lambda: spz(2 * GIB), LIMIT),
    "FBX of two arrays that unpack to 520 MiB each": ("model/fbx", lambda: fbx_of_zeros(520 << 20, 2), LIMIT),
    "FBX of a million nested nodes": ("model/fbx", lambda: nested_fbx(100), LIMIT),
    "NPY of 10^18 numbers": ("application/x-npy", lambda: npy(10**18), BROKEN),
    "safetensors with a header of 90 MB": ("application/x-safetensors", lambda: safetensors(90_000_000), BROKEN),
    "JSON of a million nested lists": ("application/json", lambda: b"[" * MANY + b"]" * MANY, LIMIT),
    "JSON of ten million values": ("application/json", lambda: b"[" + b"0," * 10 * MANY + b"0]", LIMIT),
    "ZIP of 16 GiB in overlapping members": ("application/zip", lambda: overlapping_zip(1_000), BROKEN),
    "ZIP of nested ZIPs": ("application/zip", lambda: nested_zip(4), STORED),
    "MP4 of 900 tracks": ("video/mp4", lambda: mp4(900), LIMIT),
    "MP4 of 40,000 tracks": ("video/mp4", lambda: mp4(40_000), LIMIT),
    "PLY of 10^18 rows": ("model/ply", lambda: ply(10**18), BROKEN),
    "GLB with a chunk of 4 GiB": ("model/gltf-binary", lambda: glb(0xFFFFFFFF), BROKEN),
    "glTF of a million nested brackets": ("model/gltf+json", lambda: b"[" * MANY, BROKEN),
}


def main(folder: Path) -> None:
    for name, (_, make, _) in BOMBS.items():
        (folder / name).write_bytes(make())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
