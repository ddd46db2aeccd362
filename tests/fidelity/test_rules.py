"""Rules for images: which originals are kept, and the properties that are reported."""

import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from deploy.local.samples.pictures import animation_gif, photo, turned_jpg
from handlers.codec.codec import Codec
from handlers.detect import detect
from handlers.errors import FileCorruptedError
from handlers.media import Prepared
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fidelity.pictures import chart, to_uint8, to_uint16
from tests.fidelity.png_files import RGB, chunk, png

KEEP = Profile(format=ImageFormat.KEEP)


async def prepared(codec: Codec, folder: Path, content: bytes, profile: Profile | None = None) -> Prepared:
    source = folder / "source"
    source.write_bytes(content)
    return await codec.prepare(source, folder / "prepared", detect(content).mime_type, profile or Profile())


def encoded(picture: pyvips.Image, suffix: str, **options: object) -> bytes:
    return bytes(picture.write_to_buffer(suffix, **options))


async def test_a_kept_rotated_image_has_its_displayed_size(codec: Codec, tmp_path: Path) -> None:
    prepared_file = await prepared(codec, tmp_path, turned_jpg(tmp_path), KEEP)
    assert (prepared_file.path, prepared_file.width, prepared_file.height) == (tmp_path / "source", 640, 1024)


@pytest.mark.parametrize("depth", ["uchar", "ushort"])
async def test_a_grey_image_is_stored_as_grey(codec: Codec, tmp_path: Path, depth: str) -> None:
    grey = photo(300).colourspace("b-w")
    source = grey if depth == "uchar" else (grey.cast("ushort") * 257).cast("ushort").copy(interpretation="grey16")
    prepared_file = await prepared(codec, tmp_path, encoded(source, ".png"))
    with Image.open(prepared_file.path) as stored:
        assert stored.mode == "L"


async def test_a_smaller_original_is_kept(codec: Codec, tmp_path: Path) -> None:
    content = encoded(photo(300, grain=8), ".jpg", Q=30, keep="none")
    prepared_file = await prepared(codec, tmp_path, content)
    assert (prepared_file.path, prepared_file.content_type) == (tmp_path / "source", "image/jpeg")
    assert prepared_file.path.read_bytes() == content
    assert prepared_file.thumbhash
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(("suffix", "options"), [(".avif", {"Q": 95}), (".tiff", {}), (".webp", {"lossless": True})])
async def test_a_truncated_image_is_corrupted(
    codec: Codec, tmp_path: Path, suffix: str, options: dict[str, object]
) -> None:
    content = encoded(photo(300, grain=4), suffix, **options)
    prepared_file = await prepared(codec, tmp_path, content)
    assert (prepared_file.width, prepared_file.height, prepared_file.frames) == (300, 300, 1)
    with pytest.raises(FileCorruptedError):
        await prepared(codec, tmp_path, content[: len(content) * 2 // 3])


async def test_a_kept_animation_is_decoded_completely(codec: Codec, tmp_path: Path) -> None:
    prepared_file = await prepared(codec, tmp_path, animation_gif(tmp_path), KEEP)
    assert (prepared_file.path, prepared_file.frames, prepared_file.width, prepared_file.height) == (
        tmp_path / "source",
        6,
        256,
        256,
    )
    assert prepared_file.duration == 1.0
    other = await prepared(codec, tmp_path, animation_gif(tmp_path))
    assert prepared_file.thumbhash is not None
    assert prepared_file.thumbhash[:4] == (other.thumbhash or "")[:4]  # the average colour of the first frame


@pytest.mark.parametrize("kind", ["PNG", "AVIF"])
async def test_an_animation_damaged_in_a_later_frame_is_corrupted(codec: Codec, tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.roll(to_uint8(chart()), 20 * at, 1)) for at in range(4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=50)
    content = bytearray(buffer.getvalue())
    content[len(content) * 2 // 3 : len(content) * 5 // 6] = bytes(len(content) * 5 // 6 - len(content) * 2 // 3)
    with pytest.raises(FileCorruptedError):
        await prepared(codec, tmp_path, bytes(content))


async def test_a_tiff_with_several_pages_is_kept(codec: Codec, tmp_path: Path) -> None:
    pages = photo(300).copy()
    pages.set_type(pyvips.GValue.gint_type, "page-height", 100)
    prepared_file = await prepared(codec, tmp_path, encoded(pages, ".tiff"))
    assert (prepared_file.path, prepared_file.frames, prepared_file.height, prepared_file.duration) == (
        tmp_path / "source",
        3,
        100,
        None,
    )


@pytest.mark.parametrize("transfer", [16, 18])
async def test_an_hdr_image_is_kept(codec: Codec, tmp_path: Path, transfer: int) -> None:
    content = png(to_uint16(chart()), RGB, chunk(b"cICP", bytes([9, transfer, 0, 1])))
    prepared_file = await prepared(codec, tmp_path, content)
    assert (prepared_file.path.read_bytes(), prepared_file.content_type) == (content, "image/png")


async def test_an_image_with_six_inks_is_kept(codec: Codec, tmp_path: Path) -> None:
    six = pyvips.Image.bandjoin(photo(300), photo(300, seed=9)).copy(interpretation="multiband")
    prepared_file = await prepared(codec, tmp_path, encoded(six, ".tiff"))
    assert prepared_file.path == tmp_path / "source"
