"""The codec with the demo's samples. All media types: tests/contracts/media; image fidelity: tests/fidelity."""

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pyvips

from deploy.local.samples import BROKEN_FILES, WHOLE_FILES, make_broken
from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError
from handlers.media import BY_CONTENT_TYPE, Kind, Prepared
from handlers.settings import MediaSettings
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.run_samples import RunSamples

pytestmark = pytest.mark.slow

EXPECTED = {
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
DURATIONS = {"animation.gif": 1.0, "clip.mp4": 2.5, "tone.mp3": 3.0, "tone.wav": 1.5}
PICTURES = [name for name, (content_type, _) in WHOLE_FILES.items() if content_type.startswith("image/")]


@pytest.fixture(scope="session")
def folder(run_samples: RunSamples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    run_samples.copy_to(folder)
    make_broken(folder)
    return folder


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=2, max_image_pixels=5_000_000))
    yield codec
    await codec.aclose()


def test_every_sample_has_an_expected_result() -> None:
    assert EXPECTED.keys() == WHOLE_FILES.keys()


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_the_type_is_the_same_from_the_first_4096_bytes(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    expected = BY_CONTENT_TYPE[WHOLE_FILES[name][0]]
    assert detect(content).media == expected
    assert detect(content[:4096]).media == expected
    assert detect(content[:4096], "https://fal.media/files/file.exe").media == expected


@pytest.mark.parametrize("name", WHOLE_FILES)
async def test_a_sample_is_prepared_with_its_type_size_and_hash(
    codec: Codec, folder: Path, tmp_path: Path, name: str
) -> None:
    source = folder / name
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    prepared_file = await codec.prepare(source, tmp_path / "prepared", WHOLE_FILES[name][0], Profile())
    content_type, width, height = EXPECTED[name]
    assert (prepared_file.content_type, prepared_file.width, prepared_file.height) == (content_type, width, height)
    assert prepared_file.extension == BY_CONTENT_TYPE[content_type].extension
    assert prepared_file.duration == (pytest.approx(DURATIONS[name], abs=0.1) if name in DURATIONS else None)
    content = prepared_file.path.read_bytes()
    assert (prepared_file.file_size, prepared_file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert prepared_file.file_size <= source.stat().st_size
    assert detect(content).media == BY_CONTENT_TYPE[content_type]
    assert (prepared_file.thumbhash is not None) == (BY_CONTENT_TYPE[content_type].kind is Kind.IMAGE)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    codec.check(prepared_file.path, content_type)  # the prepared file decodes


@pytest.mark.parametrize("name", WHOLE_FILES)
async def test_a_truncated_file_is_corrupted(codec: Codec, folder: Path, tmp_path: Path, name: str) -> None:
    content_type, content = WHOLE_FILES[name][0], (folder / name).read_bytes()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(damaged, tmp_path / "prepared", content_type, Profile())
    with pytest.raises(FileCorruptedError):
        codec.check(damaged, content_type)


@pytest.mark.parametrize("name", BROKEN_FILES)
async def test_a_broken_file_is_corrupted_or_not_supported(
    codec: Codec, folder: Path, tmp_path: Path, name: str
) -> None:
    content = (folder / name).read_bytes()
    found = detect(content)
    if found.media is None:
        assert found.mime_type == BROKEN_FILES[name][0]
        return
    with pytest.raises(FileCorruptedError) as caught:
        await codec.prepare(folder / name, tmp_path / "prepared", found.media.content_type, Profile())
    assert (caught.value.code, caught.value.retryable) == ("corrupted", False)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("image_format", [ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.AVIF, ImageFormat.KEEP])
async def test_a_picture_gets_the_requested_format(
    codec: Codec, folder: Path, tmp_path: Path, name: str, image_format: ImageFormat
) -> None:
    source = folder / name
    prepared_file = await codec.prepare(
        source, tmp_path / "prepared", WHOLE_FILES[name][0], Profile(format=image_format)
    )
    if image_format is ImageFormat.KEEP:
        assert (prepared_file.path, prepared_file.content_type) == (source, WHOLE_FILES[name][0])
    elif prepared_file.content_type != WHOLE_FILES[name][0]:
        special = {"animation.gif": "image/webp"} | (
            {"cut-out.png": "image/webp"} if image_format is ImageFormat.JPEG else {}
        )
        assert prepared_file.content_type == special.get(name, f"image/{image_format}")
    assert prepared_file.file_size <= source.stat().st_size
    assert (prepared_file.width, prepared_file.height) == EXPECTED[name][1:]
    codec.check(prepared_file.path, prepared_file.content_type)


async def prepared(codec: Codec, tmp_path: Path, picture: pyvips.Image, suffix: str, **options: object) -> Prepared:
    source = tmp_path / f"source{suffix}"
    picture.write_to_file(str(source), **options)
    content_type = detect(source.read_bytes()).mime_type
    return await codec.prepare(source, tmp_path / "prepared", content_type, Profile())


async def test_too_many_pixels_are_decoder_limit(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(DecoderLimitError, match="MAX_IMAGE_PIXELS"):
        await prepared(codec, tmp_path, pyvips.Image.black(2300, 2300, bands=3), ".png")


async def test_content_of_another_type_than_declared_is_refused(codec: Codec, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileCorruptedError, match="not image/png but image/jpeg"):
        await codec.prepare(folder / "photo.jpg", tmp_path / "prepared", "image/png", Profile())
    with pytest.raises(FileProcessingError) as caught:
        await codec.prepare(folder / "photo.jpg", tmp_path / "prepared", "application/pdf", Profile())
    assert caught.value.code == "type_not_supported"


async def test_a_zip_bomb_is_decoder_limit(codec: Codec, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros", "w") as member,
    ):
        for _ in range(1025):
            member.write(bytes(1 << 20))
    with pytest.raises(DecoderLimitError):
        await codec.prepare(bomb, tmp_path / "prepared", "application/zip", Profile())


async def test_archive_with_a_wrong_checksum_is_corrupted(codec: Codec, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mesh.obj", "v 0 0 0\n" * 100)
    source = tmp_path / "files.zip"
    source.write_bytes(buffer.getvalue())
    assert (await codec.prepare(source, tmp_path / "prepared", "application/zip", Profile())).path == source
    source.write_bytes(buffer.getvalue().replace(b"v 0 0 0\nv", b"v 0 1 0\nv", 1))
    with pytest.raises(FileCorruptedError):
        await codec.prepare(source, tmp_path / "prepared", "application/zip", Profile())
