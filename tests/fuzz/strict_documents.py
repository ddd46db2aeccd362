"""Strict decoders of models, texts, data and pictures that `strict_decoders` does not have, from other libraries too.

ufbx for FBX, trimesh for STL and 3MF, OpenEXR, NumPy, safetensors, FFmpeg for subtitles, ElementTree for SVG. For BMP,
TGA, ICO, JPEG 2000 and PSD there is no other decoder than Pillow without very large packages.
"""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import av
import numpy as np
import OpenEXR
import safetensors
import ufbx

SVG = "{http://www.w3.org/2000/svg}"


def fbx(path: Path) -> None:
    ufbx.load_memory(path.read_bytes(), index_error_handling=ufbx.IndexErrorHandling.ABORT_LOADING)


def load_scene(content: bytes, kind: str) -> Any:
    """Decode a model with trimesh, strictly."""
    import trimesh  # noqa: PLC0415 - it takes a second to import, in every process that collects the tests

    return trimesh.load_scene(io.BytesIO(content), file_type=kind, process=False)


def stl(path: Path) -> None:
    content = path.read_bytes()
    is_text = content.lstrip()[:5].lower() == b"solid" and b"\0" not in content[:4096]
    scene = load_scene(content, "stl_ascii" if is_text else "stl")
    assert all(len(shape.vertices) for shape in scene.geometry.values())
    assert scene.geometry


def three_mf(path: Path) -> None:
    scene = load_scene(path.read_bytes(), "3mf")
    for shape in scene.geometry.values():
        assert shape.triangles.shape[1:] == (3, 3)


def usdz(path: Path) -> None:
    with zipfile.ZipFile(path) as members:
        assert members.testzip() is None
        assert {member.compress_type for member in members.infolist()} == {zipfile.ZIP_STORED}


def mtl(path: Path) -> None:
    from trimesh.exchange.obj import parse_mtl  # noqa: PLC0415 - as in `load_scene`

    assert parse_mtl(path.read_bytes()) is not None


def spz(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    magic, version, splats = content[:4], content[4], int.from_bytes(content[8:12], "little")
    harmonics = {0: 0, 1: 3, 2: 8, 3: 15}[content[12]] * 3
    assert magic == b"NGSP"
    assert len(content) == 16 + splats * ({1: 16, 2: 19, 3: 20}[version] + harmonics)


def splat(path: Path) -> None:
    places = np.frombuffer(path.read_bytes(), dtype="<f4").reshape(-1, 8)[:, :6]
    assert np.isfinite(places).all()


def text(path: Path) -> None:
    assert "\0" not in path.read_bytes().decode("utf-8-sig")


def subtitles(kind: str) -> Callable[[Path], None]:
    def decode(path: Path) -> None:
        text(path)
        if b"-->" in path.read_bytes():
            with av.open(str(path), format=kind) as container:
                for packet in container.demux():
                    assert packet.size >= 0

    return decode


def table(path: Path) -> None:
    content = path.read_bytes().decode("utf-8-sig")
    delimiter = csv.Sniffer().sniff(content.splitlines()[0], ",;\t").delimiter
    assert len(list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))) > 1


def json_file(path: Path) -> None:
    json.loads(path.read_bytes().decode("utf-8-sig"))


def weights(path: Path) -> None:
    safetensors.deserialize(path.read_bytes())


def array(path: Path) -> None:
    with path.open("rb") as file:
        np.load(file, allow_pickle=False)


def arrays(path: Path) -> None:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
        for name in members:
            assert members[name] is not None


def exr(path: Path) -> None:
    with OpenEXR.File(str(path), separate_channels=True) as file:  # R, G and B may have different types
        channels = file.channels()
        assert channels
        assert all(channel.pixels is not None and channel.pixels.size for channel in channels.values())


def svg(path: Path) -> None:
    for element in ET.fromstring(path.read_bytes()).iter():  # noqa: S314 - its own output, without entities
        assert element.tag.removeprefix(SVG).lower() not in {"script", "foreignobject", "iframe", "handler"}
        for name, value in element.attrib.items():
            local = name.rpartition("}")[2].lower()
            assert not local.startswith("on")
            assert local not in {"href", "src"} or value.strip().lower().startswith(("#", "data:image/"))
            assert "javascript:" not in value.lower()


MORE_DECODERS: dict[str, Callable[[Path], None]] = {
    "image/svg+xml": svg,
    "image/x-exr": exr,
    "model/fbx": fbx,
    "model/stl": stl,
    "model/3mf": three_mf,
    "model/vnd.usdz+zip": usdz,
    "model/mtl": mtl,
    "model/spz": spz,
    "model/splat": splat,
    "application/json": json_file,
    "text/vtt": subtitles("webvtt"),
    "application/x-subrip": subtitles("srt"),
    "text/csv": table,
    "text/plain": text,
    "application/x-safetensors": weights,
    "application/x-npy": array,
    "application/x-npz": arrays,
}
