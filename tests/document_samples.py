"""Samples of texts, data and pictures that are not encoded by libvips."""

import io
import json
import random
import struct
import tempfile
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image

from deploy.local.samples.pictures import photo
from tests.model_files import zipped

SIDE = 80
ROWS = [("name", "prompt", "seed"), *((f"a{at}", f'"a cat, {at}"', str(at * 7)) for at in range(20))]


def csv() -> bytes:
    return "".join(",".join(row) + "\r\n" for row in ROWS).encode()


def plain_text() -> bytes:
    return (
        "A grey cat sits on a wall, looking at the sea.\nEin graues K\u00e4tzchen sitzt auf der Mauer.\n".encode() * 6
    )


def config() -> bytes:
    return json.dumps(
        {"rank": 16, "trigger": "ohwx \u00e9", "steps": [1, 2.5, None, True], "x": {"y": "z"}}, indent=1
    ).encode()


def lottie() -> bytes:
    layer = {"ty": 4, "nm": "dot", "ip": 0, "op": 60, "st": 0, "ks": {}, "shapes": []}
    value = {"v": "5.7.4", "fr": 30, "ip": 0, "op": 60, "w": 320, "h": 240, "nm": "dot", "ddd": 0, "assets": []}
    return json.dumps(value | {"layers": [layer]}).encode()


def srt() -> bytes:
    return "".join(f"{at}\n00:00:{at:02},000 --> 00:00:{at:02},900\nLine {at}\n\n" for at in range(1, 20)).encode()


def vtt() -> bytes:
    return b"WEBVTT\n\n" + "".join(f"00:{at:02}.000 --> 00:{at:02}.900\nLine {at}\n\n" for at in range(1, 20)).encode()


def weights() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "lora.down": {"dtype": "BF16", "shape": [4, 32], "data_offsets": [0, 256]},
        "lora.up": {"dtype": "F32", "shape": [32, 4], "data_offsets": [256, 768]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + random.Random(3).randbytes(768)  # noqa: S311 - sample data


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(600, dtype="<f4").reshape(20, 30))
    return buffer.getvalue()


def arrays() -> bytes:
    return zipped({"embedding.npy": array(), "mask.npy": array()}, 8)


def svg() -> bytes:
    """Return a picture in the form in which the sanitiser writes it."""
    dots = "".join(f'<circle cx="{at * 10}" cy="{at % 7}" fill="url(#g)" r="2.5"/>' for at in range(12))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 60"><defs><linearGradient id="g">'
        '<stop offset="0" stop-color="#f00"/><stop offset="1" stop-color="#00f"/></linearGradient></defs>'
        f'{dots}<text x="1" y="50">caf\u00e9 &amp; more</text></svg>'
    ).encode()


def pillow(kind: str, mode: str = "RGB", **options: object) -> bytes:
    picture = Image.frombytes("RGB", (SIDE, SIDE), bytes(photo(SIDE, grain=4).write_to_memory())).convert(mode)
    output = io.BytesIO()
    picture.save(output, kind, **options)
    return output.getvalue()


def psd() -> bytes:
    pixels = bytes(photo(SIDE, grain=4).write_to_memory())
    planes = b"".join(pixels[channel::3] for channel in range(3))
    return struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, SIDE, SIDE, 8, 3) + bytes(12) + b"\0\0" + planes


def exr() -> bytes:
    pixels = np.random.default_rng(4).random((SIDE, SIDE, 3), dtype=np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        with OpenEXR.File(header, {"RGB": pixels}) as file:
            file.write(str(path))
        return path.read_bytes()
