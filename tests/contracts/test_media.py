"""What holds for the demo's samples. Every type: tests/contracts/media; how faithful images are: tests/fidelity."""

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pyvips

from deploy.local.samples import BROKEN_FILES, WHOLE_FILES, make_broken, make_samples
from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError
from handlers.media import BY_CONTENT_TYPE, Kind, Prepared
from handlers.settings import MediaSettings
from schemas.formats import ImageFormat
from schemas.jobs import Profile

pytestmark = pytest.mark.slow

BECOMES = {
    "photo.png": ("image/jpeg", 1024, 1024),
    "large.png": ("image/jpeg", 2048, 2048),
    "photo.jpg": ("image/jpeg", 1024, 1024),
    "photo.webp": ("image/jpeg", 1024, 1024),
    "cut-out.png": ("image/webp", 512, 512),
    "animation.gif": ("image/webp", 256, 256),
    "turned.jpg": ("image/jpeg", 640, 1024),
    "clip.mp4": ("video/mp4", 480, 272),
    "tone.mp3": ("audio/mpeg", None, None),
    "tone.wav": ("audio/wav", None, None),
    "cube.glb": ("model/gltf-binary", None, None),
}
LASTS = {"animation.gif": 1.0, "clip.mp4": 2.5, "tone.mp3": 3.0, "tone.wav": 1.5}
PICTURES = [name for name, (content_type, _) in WHOLE_FILES.items() if content_type.startswith("image/")]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "samples"
    make_samples(folder)
    make_broken(folder)
    return folder


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=2, max_image_pixels=5_000_000))
    yield codec
    await codec.aclose()


def test_every_sample_and_no_other_is_expected_here() -> None:
    assert BECOMES.keys() == WHOLE_FILES.keys()


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_detected_from_the_head_as_from_the_whole(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    wanted = BY_CONTENT_TYPE[WHOLE_FILES[name][0]]
    assert detect(content).media == wanted
    assert detect(content[:4096]).media == wanted
    assert detect(content[:4096], "https://fal.media/files/liar.exe").media == wanted


@pytest.mark.parametrize("name", WHOLE_FILES)
async def test_prepared(codec: Codec, folder: Path, tmp_path: Path, name: str) -> None:
    source = folder / name
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    made = await codec.prepare(source, tmp_path / "prepared", WHOLE_FILES[name][0], Profile())
    content_type, width, height = BECOMES[name]
    assert (made.content_type, made.width, made.height) == (content_type, width, height)
    assert made.extension == BY_CONTENT_TYPE[content_type].extension
    assert made.duration == (pytest.approx(LASTS[name], abs=0.1) if name in LASTS else None)
    content = made.path.read_bytes()
    assert (made.file_size, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert made.file_size <= source.stat().st_size
    assert detect(content).media == BY_CONTENT_TYPE[content_type]
    assert (made.thumbhash is not None) == (BY_CONTENT_TYPE[content_type].kind is Kind.IMAGE)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    codec.check(made.path, content_type)  # what is stored decodes again


@pytest.mark.parametrize("name", WHOLE_FILES)
async def test_a_file_cut_short_is_refused(codec: Codec, folder: Path, tmp_path: Path, name: str) -> None:
    content_type, content = WHOLE_FILES[name][0], (folder / name).read_bytes()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(damaged, tmp_path / "prepared", content_type, Profile())
    with pytest.raises(FileCorruptedError):
        codec.check(damaged, content_type)


@pytest.mark.parametrize("name", BROKEN_FILES)
async def test_broken_files_are_refused(codec: Codec, folder: Path, tmp_path: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    found = detect(content)
    if found.media is None:
        assert found.sniffed == BROKEN_FILES[name][0]
        return
    with pytest.raises(FileCorruptedError) as caught:
        await codec.prepare(folder / name, tmp_path / "prepared", found.media.content_type, Profile())
    assert (caught.value.code, caught.value.retryable) == ("corrupted", False)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("asked", [ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.AVIF, ImageFormat.KEEP])
async def test_formats_as_asked(codec: Codec, folder: Path, tmp_path: Path, name: str, asked: ImageFormat) -> None:
    source = folder / name
    made = await codec.prepare(source, tmp_path / "prepared", WHOLE_FILES[name][0], Profile(format=asked))
    if asked is ImageFormat.KEEP:
        assert (made.path, made.content_type) == (source, WHOLE_FILES[name][0])
    elif made.content_type != WHOLE_FILES[name][0]:
        special = {"animation.gif": "image/webp"} | ({"cut-out.png": "image/webp"} if asked is ImageFormat.JPEG else {})
        assert made.content_type == special.get(name, f"image/{asked}")
    assert made.file_size <= source.stat().st_size
    assert (made.width, made.height) == BECOMES[name][1:]
    codec.check(made.path, made.content_type)


async def prepared(codec: Codec, tmp_path: Path, picture: pyvips.Image, suffix: str, **options: object) -> Prepared:
    source = tmp_path / f"source{suffix}"
    picture.write_to_file(str(source), **options)
    content_type = detect(source.read_bytes()).sniffed
    return await codec.prepare(source, tmp_path / "prepared", content_type, Profile())


@pytest.mark.parametrize("frames", [1, 8])
async def test_too_many_pixels_are_refused_before_decoding(codec: Codec, tmp_path: Path, frames: int) -> None:
    side = 1000 if frames > 1 else 2300
    black = pyvips.Image.black(side, side * frames, bands=3).copy()
    if frames > 1:
        lines = [
            pyvips.Image.black(side, side, bands=3).draw_rect([at * 30] * 3, 0, 0, 900, 900, fill=True)
            for at in range(frames)
        ]
        black = pyvips.Image.arrayjoin(lines, across=1).copy()
        black.set_type(pyvips.GValue.gint_type, "page-height", side)
    with pytest.raises(DecoderLimitError, match="MAX_IMAGE_PIXELS"):
        await prepared(codec, tmp_path, black, ".gif" if frames > 1 else ".png")


async def test_the_content_must_be_what_it_is_called(codec: Codec, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileCorruptedError, match="not image/png but image/jpeg"):
        await codec.prepare(folder / "photo.jpg", tmp_path / "prepared", "image/png", Profile())
    with pytest.raises(FileProcessingError) as caught:
        await codec.prepare(folder / "photo.jpg", tmp_path / "prepared", "application/pdf", Profile())
    assert caught.value.code == "type_not_supported"


async def test_an_archive_that_unpacks_to_too_much_is_stopped(codec: Codec, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros", "w") as member,
    ):
        for _ in range(1025):
            member.write(bytes(1 << 20))
    with pytest.raises(DecoderLimitError):
        await codec.prepare(bomb, tmp_path / "prepared", "application/zip", Profile())


async def test_an_archive_is_read_to_the_last_checksum(codec: Codec, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mesh.obj", "v 0 0 0\n" * 100)
    source = tmp_path / "files.zip"
    source.write_bytes(buffer.getvalue())
    assert (await codec.prepare(source, tmp_path / "prepared", "application/zip", Profile())).path == source
    source.write_bytes(buffer.getvalue().replace(b"v 0 0 0\nv", b"v 0 1 0\nv", 1))
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "application/zip", Profile())
