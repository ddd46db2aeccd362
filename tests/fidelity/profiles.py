"""ICC profiles built byte by byte, so that the test images do not depend on the libraries under test."""

import struct
from typing import Final

import numpy as np

D50: Final = (0.9642, 1.0, 0.8249)
SRGB: Final = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3: Final = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE: Final = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO: Final = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
D65_WHITE: Final = (0.3127, 0.3290)
D50_WHITE: Final = (0.3457, 0.3585)
SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def to_xyz(primaries: Primaries, white: tuple[float, float]) -> np.ndarray:
    """Return the matrix from linear RGB to XYZ with the colour space's white point."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    x, y = white
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


def adapted(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix adapted to D50 (Bradford)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gains = (bradford @ np.array(D50)) / (bradford @ matrix.sum(axis=1))
    return np.linalg.inv(bradford) @ np.diag(gains) @ bradford @ matrix


def _s15(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(gamma: float | tuple[float, ...], version: int) -> bytes:
    if isinstance(gamma, tuple):
        return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _s15(*gamma)
    if version >= 4:
        return b"para" + bytes(4) + bytes(4) + _s15(gamma)
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _text(kind: str, text: str) -> bytes:
    if kind == "mluc":
        words = text.encode("utf-16-be")
        return b"mluc" + bytes(4) + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(words), 28) + words
    if kind == "desc":
        return b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text.encode() + bytes(1 + 8 + 3 + 67)
    return b"text" + bytes(4) + text.encode() + b"\0"


def profile(curve: float | tuple[float, ...], matrix: np.ndarray | None = None, version: int = 2) -> bytes:
    """Return an ICC display profile with matrix and curves; without a matrix, a grey profile."""
    named = ("mluc", "mluc") if version >= 4 else ("desc", "text")
    tags = {
        b"desc": _text(named[0], "test"),
        b"cprt": _text(named[1], "none"),
        b"wtpt": b"XYZ " + bytes(4) + _s15(*D50),
    }
    if matrix is None:
        tags[b"kTRC"] = _curve(curve, version)
    else:
        for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ")):
            tags[name] = b"XYZ " + bytes(4) + _s15(*matrix[:, at])
        for name in (b"rTRC", b"gTRC", b"bTRC"):
            tags[name] = _curve(curve, version)
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", version << 24, b"mntr", b"RGB ", b"XYZ ")
    if matrix is None:
        head = head.replace(b"RGB ", b"GRAY")
    head += struct.pack(">6H4s4sI4sIQI", 2026, 1, 1, 0, 0, 0, b"acsp", b"APPL", 0, b"none", 0, 0, 0)
    return (head + _s15(*D50)).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def decoded(values: np.ndarray, curve: float | tuple[float, ...]) -> np.ndarray:
    """Convert encoded values, 0 to 1, to linear light."""
    if isinstance(curve, float):
        return values**curve
    gamma, a, b, c, d = curve
    return np.where(values >= d, (a * values + b) ** gamma, c * values)


def encoded(light: np.ndarray, curve: float | tuple[float, ...]) -> np.ndarray:
    """Convert linear light, 0 to 1, to encoded values."""
    light = light.clip(0, 1)
    if isinstance(curve, float):
        return light ** (1 / curve)
    gamma, a, b, c, d = curve
    return np.where(light >= c * d, (light ** (1 / gamma) - b) / a, light / c)


def in_space(picture: np.ndarray, matrix: np.ndarray, curve: float | tuple[float, ...]) -> np.ndarray:
    """Convert an sRGB image, 0 to 1, to another colour space; `matrix` is that of the space, to D50."""
    to_d50 = adapted(to_xyz(SRGB, D65_WHITE))
    return encoded(decoded(picture, SRGB_CURVE) @ to_d50.T @ np.linalg.inv(matrix).T, curve)


DISPLAY_P3: Final = adapted(to_xyz(P3, D65_WHITE))
ADOBE_RGB: Final = adapted(to_xyz(ADOBE, D65_WHITE))
PROPHOTO_RGB: Final = adapted(to_xyz(PROPHOTO, D50_WHITE))


def to_lab(picture: np.ndarray) -> np.ndarray:
    """Convert an sRGB image to CIELAB (D50)."""
    x = decoded(picture, SRGB_CURVE) @ adapted(to_xyz(SRGB, D65_WHITE)).T / np.array(D50)
    f = np.where(x > 216 / 24389, np.cbrt(x), (x * 24389 / 27 + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def from_lab(values: np.ndarray) -> np.ndarray:
    """Convert CIELAB (D50) to an sRGB image."""
    y = (values[..., 0] + 16) / 116
    f = np.stack([y + values[..., 1] / 500, y, y - values[..., 2] / 200], axis=-1)
    x = np.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389) * np.array(D50)
    return encoded(x @ np.linalg.inv(adapted(to_xyz(SRGB, D65_WHITE))).T, SRGB_CURVE)
