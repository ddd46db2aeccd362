"""Strict decoders from other libraries than Outlast uses: a file that they reject must not be stored.

Pillow and pillow-heif for pictures, libsndfile for audio, trimesh and plyfile for models, stream-unzip for archives.
For video, AAC and M4A there is no other decoder without very large packages; here FFmpeg decodes every frame again,
with strict error detection.
"""

import io
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import pillow_heif
import plyfile
import soundfile
import stream_unzip
from PIL import Image, ImageSequence

from tests.fuzz.strict_documents import MORE_DECODERS, load_scene

PIECE = 1 << 16


def rejection_reason(path: Path | str, content_type: str) -> str | None:
    """Return why a strict decoder rejects the file; None: it accepts it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # The directory of an ICO names another size than the picture in it has. Viewers show the picture.
            warnings.filterwarnings("ignore", "Image was not the expected size")
            STRICT_DECODERS[content_type](Path(path))
    except Exception as error:  # noqa: BLE001 - any error is a rejection
        return f"{type(error).__name__}: {error}"
    return None


def _picture(kind: str) -> Callable[[Path], None]:
    def decode(path: Path) -> None:
        content = path.read_bytes()
        for marker in (b"Exif\0\0", b"\0\x02\0\0Exif"):  # viewers do not need it
            content = content.replace(marker, marker.replace(b"Exif", b"none"))
        with Image.open(io.BytesIO(content), formats=[kind]) as image:
            image.verify()  # the structure, if the format has checksums
        with Image.open(io.BytesIO(content), formats=[kind]) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()

    return decode


def _heic(path: Path) -> None:
    for picture in pillow_heif.open_heif(path, convert_hdr_to_8bit=True):
        assert picture.data


def _audio_video(path: Path, kind: str | None = None) -> None:
    frames = 0
    with av.open(str(path), format=kind, metadata_errors="ignore") as container:
        for stream in container.streams:
            stream.codec_context.options = {"err_detect": "explode+crccheck+bitstream+buffer"}
        for packet in container.demux():
            for frame in packet.decode():
                assert not frame.is_corrupt
                frames += 1
    assert frames


def _mp3(path: Path) -> None:
    _sound(io.BytesIO(path.read_bytes().lstrip(b"\0")))  # libsndfile does not skip zeros before the first frame


def _sound(file: Path | io.BytesIO) -> None:
    with soundfile.SoundFile(file) as sound:
        read = sum(len(block) for block in sound.blocks(PIECE))
        assert read
        assert sound.format in {"WAV", "FLAC", "OGG", "MP3", "MPEG", "AIFF"}


def _ply(path: Path) -> None:
    elements = {element.name: element for element in plyfile.PlyData.read(str(path))}
    vertices = len(elements["vertex"]["x"])
    for corners in elements["face"].data["vertex_indices"] if "face" in elements else ():
        assert 0 <= min(corners) <= max(corners) < vertices


def _model(kind: str) -> Callable[[Path], None]:
    def decode(path: Path) -> None:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # trimesh does not skip it
        if kind == "gltf" and any(not each["uri"].startswith("data:") for each in json.loads(content)["buffers"]):
            return  # the data is in another file
        scene = load_scene(content, kind)
        for shape in scene.geometry.values():
            assert len(shape.vertices)
            assert not hasattr(shape, "faces") or shape.triangles.shape[1:] == (3, 3)
        assert scene.geometry or (
            kind in {"glb", "gltf"} and b'"meshes"' not in content
        )  # a scene without meshes is valid

    return decode


def _archive(path: Path) -> None:
    with path.open("rb") as file:
        for _, _, pieces in stream_unzip.stream_unzip(iter(lambda: file.read(PIECE), b"")):
            for _ in pieces:
                pass


STRICT_DECODERS: dict[str, Callable[[Path], None]] = {
    "image/jpeg": _picture("JPEG"),
    "image/png": _picture("PNG"),
    "image/webp": _picture("WEBP"),
    "image/gif": _picture("GIF"),
    "image/avif": _picture("AVIF"),
    "image/tiff": _picture("TIFF"),
    "image/heic": _heic,
    "image/bmp": _picture("BMP"),
    "image/x-tga": _picture("TGA"),
    "image/vnd.microsoft.icon": _picture("ICO"),
    "image/jp2": _picture("JPEG2000"),
    "image/vnd.adobe.photoshop": _picture("PSD"),
    "video/mp4": _audio_video,
    "video/webm": _audio_video,
    "video/quicktime": _audio_video,
    "video/x-matroska": _audio_video,
    "video/3gpp": _audio_video,
    "video/mp2t": partial(_audio_video, kind="mpegts"),
    "video/x-msvideo": _audio_video,
    "audio/mpeg": _mp3,
    "audio/wav": _sound,
    "audio/flac": _sound,
    "audio/ogg": _sound,
    "audio/mp4": _audio_video,
    "audio/aiff": _sound,
    "audio/webm": _audio_video,
    "audio/x-matroska": _audio_video,
    "audio/quicktime": _audio_video,
    "audio/3gpp": _audio_video,
    "audio/aac": partial(_audio_video, kind="aac"),
    "model/gltf-binary": _model("glb"),
    "model/gltf+json": _model("gltf"),
    "model/obj": _model("obj"),
    "model/ply": _ply,
    "application/zip": _archive,
    **MORE_DECODERS,
}
