"""The rules of images one by one: what is kept, and what is said of it."""

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
from tests.fidelity.pictures import bytes_of, chart, words_of
from tests.fidelity.png_files import RGB, chunk, png
from tests.fidelity.rows import frames_of, rgba

KEEP = Profile(format=ImageFormat.KEEP)


async def prepared(codec: Codec, folder: Path, content: bytes, profile: Profile | None = None) -> Prepared:
    source = folder / "source"
    source.write_bytes(content)
    return await codec.prepare(source, folder / "prepared", detect(content).mime_type, profile or Profile())


def written(picture: pyvips.Image, suffix: str, **options: object) -> bytes:
    return bytes(picture.write_to_buffer(suffix, **options))


async def test_a_turned_picture_that_is_kept_is_told_as_shown(codec: Codec, tmp_path: Path) -> None:
    made = await prepared(codec, tmp_path, turned_jpg(tmp_path), KEEP)
    assert (made.path, made.width, made.height) == (tmp_path / "source", 640, 1024)


@pytest.mark.parametrize("depth", ["uchar", "ushort"])
async def test_grey_is_stored_as_grey(codec: Codec, tmp_path: Path, depth: str) -> None:
    grey = photo(300).colourspace("b-w")
    source = grey if depth == "uchar" else (grey.cast("ushort") * 257).cast("ushort").copy(interpretation="grey16")
    made = await prepared(codec, tmp_path, written(source, ".png"))
    with Image.open(made.path) as stored:
        assert stored.mode == "L"


async def test_the_original_is_kept_when_it_is_smaller(codec: Codec, tmp_path: Path) -> None:
    content = written(photo(300, grain=8), ".jpg", Q=30, keep="none")
    made = await prepared(codec, tmp_path, content)
    assert (made.path, made.content_type) == (tmp_path / "source", "image/jpeg")
    assert made.path.read_bytes() == content
    assert made.thumbhash
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(("suffix", "options"), [(".avif", {"Q": 95}), (".tiff", {}), (".webp", {"lossless": True})])
async def test_a_picture_cut_short_is_refused(
    codec: Codec, tmp_path: Path, suffix: str, options: dict[str, object]
) -> None:
    content = written(photo(300, grain=4), suffix, **options)
    made = await prepared(codec, tmp_path, content)
    assert (made.width, made.height, made.frames) == (300, 300, 1)
    with pytest.raises(FileCorruptedError):
        await prepared(codec, tmp_path, content[: len(content) * 2 // 3])


async def test_an_animation_kept_as_it_is_is_decoded_whole(codec: Codec, tmp_path: Path) -> None:
    made = await prepared(codec, tmp_path, animation_gif(tmp_path), KEEP)
    assert (made.path, made.frames, made.width, made.height) == (tmp_path / "source", 6, 256, 256)
    assert made.duration == 1.0
    other = await prepared(codec, tmp_path, animation_gif(tmp_path))
    assert made.thumbhash is not None
    assert made.thumbhash[:4] == (other.thumbhash or "")[:4]  # the first frame's colour, either way


@pytest.mark.parametrize("kind", ["PNG", "AVIF"])
async def test_a_film_that_is_damaged_in_a_later_frame_is_refused(codec: Codec, tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.roll(bytes_of(chart()), 20 * at, 1)) for at in range(4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=50)
    content = bytearray(buffer.getvalue())
    content[len(content) * 2 // 3 : len(content) * 5 // 6] = bytes(len(content) * 5 // 6 - len(content) * 2 // 3)
    with pytest.raises(FileCorruptedError):
        await prepared(codec, tmp_path, bytes(content))


async def test_a_document_of_several_pages_is_kept(codec: Codec, tmp_path: Path) -> None:
    pages = photo(300).copy()
    pages.set_type(pyvips.GValue.gint_type, "page-height", 100)
    made = await prepared(codec, tmp_path, written(pages, ".tiff"))
    assert (made.path, made.frames, made.height, made.duration) == (tmp_path / "source", 3, 100, None)


async def test_a_jpeg_with_a_gain_map_becomes_its_ordinary_picture(codec: Codec, tmp_path: Path) -> None:
    bright = pyvips.Image.new_from_memory(bytes_of(chart()).tobytes(), 288, 240, 3, "uchar")
    content = bytes(bright.copy(interpretation="srgb").colourspace("scrgb").uhdrsave_buffer(Q=98))
    source = tmp_path / "gain-map"
    source.write_bytes(content)
    assert pyvips.Image.new_from_file(str(source)).get("vips-loader") == "uhdrload"
    made = await prepared(codec, tmp_path, content)
    assert made.content_type == "image/jpeg"
    with Image.open(source) as plain:  # Pillow takes the gain map for a second picture
        ordinary = rgba(plain.convert("RGB"), plain.info["icc_profile"])
    assert np.abs(frames_of(made.path.read_bytes())[0].astype(int) - ordinary).mean() < 2


@pytest.mark.parametrize("transfer", [16, 18])
async def test_hdr_is_kept_since_no_8_bits_hold_it(codec: Codec, tmp_path: Path, transfer: int) -> None:
    content = png(words_of(chart()), RGB, chunk(b"cICP", bytes([9, transfer, 0, 1])))
    made = await prepared(codec, tmp_path, content)
    assert (made.path.read_bytes(), made.content_type) == (content, "image/png")


async def test_inks_beyond_four_are_kept(codec: Codec, tmp_path: Path) -> None:
    six = pyvips.Image.bandjoin(photo(300), photo(300, seed=9)).copy(interpretation="multiband")
    made = await prepared(codec, tmp_path, written(six, ".tiff"))
    assert made.path == tmp_path / "source"
