"""What holds for every media type, run over every sample; then the rules of images one by one."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pyvips

from deploy.local.sample_pictures import photo
from deploy.local.samples import BROKEN_FILES, WHOLE_FILES, make_broken, make_samples
from handlers.codec import Codec
from handlers.detect import detect
from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError
from handlers.media import BY_CONTENT_TYPE, Kind, Prepared, image, model3d, packets
from handlers.media.child import DECODERS
from handlers.settings import MediaSettings
from schemas.jobs import ImageFormat, Profile

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
LASTS = {"clip.mp4": 2.5, "tone.mp3": 3.0, "tone.wav": 1.5}
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


def loaded(path: Path, **options: object) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(path), fail_on="warning", **options)


def difference(one: pyvips.Image, other: pyvips.Image) -> float:
    """Mean difference of two pictures, in steps of 255."""
    return float((one.colourspace("srgb") - other.colourspace("srgb")).abs().avg())


def test_every_sample_and_no_other_is_expected_here() -> None:
    assert BECOMES.keys() == WHOLE_FILES.keys()


def test_every_media_type_has_its_decoder() -> None:
    known = {*image.LOADERS, "image/heic", *packets.FORMATS, *model3d.CHECKS, "application/zip"}
    assert known == BY_CONTENT_TYPE.keys()
    assert DECODERS.keys() == set(Kind)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
async def test_bytes_after_the_end_do_no_harm(codec: Codec, tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"trailing{suffix}"
    photo(300).write_to_file(str(source))
    source.write_bytes(source.read_bytes() + bytes(500))
    made = await codec.prepare(source, tmp_path / "prepared", detect(source.read_bytes()).sniffed, Profile())
    assert (made.width, made.height) == (300, 300)


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
    if name == "tone.mp3":
        content = b"\xff\xfb\x90\x00" + bytes(400)  # frames are all an MP3 consists of: this one is empty
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
    elif made.path != source:
        special = {"animation.gif": "image/webp"} | ({"cut-out.png": "image/webp"} if asked is ImageFormat.JPEG else {})
        assert made.content_type == special.get(name, f"image/{asked}")
    assert made.file_size <= source.stat().st_size
    assert (made.width, made.height) == BECOMES[name][1:]
    codec.check(made.path, made.content_type)


async def test_the_picture_stays_the_same(codec: Codec, folder: Path, tmp_path: Path) -> None:
    made = await codec.prepare(folder / "photo.png", tmp_path / "prepared", "image/png", Profile())
    assert difference(loaded(folder / "photo.png"), loaded(made.path)) < 2


async def test_a_turned_picture_comes_out_upright(codec: Codec, folder: Path, tmp_path: Path) -> None:
    lying = loaded(folder / "turned.jpg")
    assert lying.get("orientation") == 6
    made = await codec.prepare(folder / "turned.jpg", tmp_path / "prepared", "image/jpeg", Profile())
    stored = loaded(made.path)
    assert (stored.width, stored.height) == (lying.height, lying.width)
    assert "orientation" not in stored.get_fields() or stored.get("orientation") == 1
    assert difference(stored, lying.rot90()) < 4
    assert difference(stored, lying.rot270()) > 10


async def test_a_turned_picture_that_is_kept_is_told_as_shown(codec: Codec, folder: Path, tmp_path: Path) -> None:
    keep = Profile(format=ImageFormat.KEEP)
    made = await codec.prepare(folder / "turned.jpg", tmp_path / "prepared", "image/jpeg", keep)
    assert (made.path, made.width, made.height) == (folder / "turned.jpg", 640, 1024)


async def test_an_animation_keeps_frames_and_timing(codec: Codec, folder: Path, tmp_path: Path) -> None:
    before = loaded(folder / "animation.gif", n=-1)
    made = await codec.prepare(folder / "animation.gif", tmp_path / "prepared", "image/gif", Profile())
    after = loaded(made.path, n=-1)
    assert made.frames == after.get("n-pages") == before.get("n-pages") == 6
    assert after.get("delay") == before.get("delay") == [80, 120, 200, 80, 120, 400]
    assert after.get("loop") == before.get("loop")
    assert difference(after.extract_band(0, n=3), before.extract_band(0, n=3)) < 6


async def test_transparency_stays(codec: Codec, folder: Path, tmp_path: Path) -> None:
    made = await codec.prepare(folder / "cut-out.png", tmp_path / "prepared", "image/png", Profile())
    before, after = loaded(folder / "cut-out.png"), loaded(made.path)
    assert after.hasalpha()
    assert (before[3] - after[3]).abs().max() == 0


async def prepared(codec: Codec, tmp_path: Path, picture: pyvips.Image, suffix: str, **options: object) -> Prepared:
    source = tmp_path / f"source{suffix}"
    picture.write_to_file(str(source), **options)
    content_type = detect(source.read_bytes()).sniffed
    return await codec.prepare(source, tmp_path / "prepared", content_type, Profile())


async def test_an_alpha_channel_that_hides_nothing_is_dropped(codec: Codec, tmp_path: Path) -> None:
    picture = photo(300)
    made = await prepared(codec, tmp_path, picture.addalpha().cast("uchar"), ".png")
    assert made.content_type == "image/jpeg"
    assert difference(loaded(made.path), picture) < 2


@pytest.mark.parametrize("depth", ["uchar", "ushort"])
async def test_grey_stays_grey(codec: Codec, tmp_path: Path, depth: str) -> None:
    grey = photo(300).colourspace("b-w")
    source = grey if depth == "uchar" else (grey.cast("ushort") * 257).cast("ushort").copy(interpretation="grey16")
    made = await prepared(codec, tmp_path, source, ".png")
    stored = loaded(made.path)
    assert (stored.bands, stored.format) == (1, "uchar")
    assert (stored - grey).abs().avg() < 2


@pytest.mark.parametrize("with_alpha", [False, True])
async def test_sixteen_bits_become_eight(codec: Codec, tmp_path: Path, *, with_alpha: bool) -> None:
    picture = photo(300)
    deep = (picture.cast("ushort") * 257).cast("ushort")
    if with_alpha:
        deep = deep.bandjoin((pyvips.Image.xyz(300, 300)[0] * 218).cast("ushort"))
    made = await prepared(codec, tmp_path, deep.copy(interpretation="rgb16"), ".png")
    assert made.content_type == ("image/webp" if with_alpha else "image/jpeg")
    stored = loaded(made.path)
    assert stored.hasalpha() == with_alpha
    if with_alpha:
        assert (stored[3] - pyvips.Image.xyz(300, 300)[0] * 218 / 257).abs().max() <= 1
        visible = pyvips.Image.xyz(300, 300)[0] > 30  # what shows through nothing may be anything
        assert ((stored.extract_band(0, n=3) - picture).abs() * visible / 255).avg() < 4
    else:
        assert difference(stored, picture) < 2


async def test_cmyk_becomes_what_it_looks_like(codec: Codec, tmp_path: Path) -> None:
    picture = photo(300)
    made = await prepared(codec, tmp_path, picture.icc_transform("cmyk", input_profile="srgb"), ".jpg", Q=100)
    stored = loaded(made.path)
    assert (stored.interpretation, stored.bands) == ("srgb", 3)
    assert difference(stored, picture) < 8  # CMYK itself holds fewer colours


async def test_a_wide_profile_is_brought_to_srgb(codec: Codec, tmp_path: Path) -> None:
    picture = (
        (photo(300) * [1.6, 0.5, 0.3]).cast("uchar").copy(interpretation="srgb")
    )  # wide gamuts show in strong colours
    wide = picture.icc_transform("p3", input_profile="srgb")
    assert difference(wide, picture) > 5  # else this proves nothing
    made = await prepared(codec, tmp_path, wide, ".png")
    stored = loaded(made.path)
    assert "icc-profile-data" not in stored.get_fields()
    assert difference(stored, picture) < 1.5


async def test_an_unusable_profile_is_ignored(codec: Codec, tmp_path: Path) -> None:
    picture = photo(300).copy()
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"no profile at all" * 20)
    made = await prepared(codec, tmp_path, picture, ".jpg", Q=100)
    assert difference(loaded(made.path), picture) < 3


async def test_the_original_is_kept_when_it_is_smaller(codec: Codec, tmp_path: Path) -> None:
    made = await prepared(codec, tmp_path, photo(300, grain=8), ".jpg", Q=30)
    assert made.path == tmp_path / "source.jpg"
    assert made.content_type == "image/jpeg"
    assert made.thumbhash
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize("strip", [True, False])
async def test_metadata(codec: Codec, tmp_path: Path, *, strip: bool) -> None:
    picture = photo(300).copy()
    picture.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Copyright", "me")
    source = tmp_path / "source.jpg"
    picture.write_to_file(str(source), Q=100)
    made = await codec.prepare(source, tmp_path / "prepared", "image/jpeg", Profile(strip_metadata=strip))
    assert made.path != source
    assert ("exif-ifd0-Copyright" in loaded(made.path).get_fields()) != strip


async def test_an_animated_png_keeps_its_frames(codec: Codec, tmp_path: Path) -> None:
    content = photo(300).pngsave_buffer()
    control = b"acTL" + (2).to_bytes(4, "big") + bytes(4)
    checksum = zlib.crc32(control).to_bytes(4, "big")
    source = tmp_path / "animated.png"
    source.write_bytes(content[:33] + (8).to_bytes(4, "big") + control + checksum + content[33:])
    made = await codec.prepare(source, tmp_path / "prepared", "image/png", Profile())
    assert made.path == source


@pytest.mark.parametrize(("suffix", "options"), [(".avif", {"Q": 95}), (".tiff", {}), (".webp", {"lossless": True})])
async def test_other_sources(codec: Codec, tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    picture = photo(300, grain=4)
    made = await prepared(codec, tmp_path, picture, suffix, **options)
    assert (made.width, made.height, made.frames) == (300, 300, 1)
    assert difference(loaded(made.path), picture) < 4
    damaged = tmp_path / f"damaged{suffix}"
    content = (tmp_path / f"source{suffix}").read_bytes()
    damaged.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(FileCorruptedError):
        await codec.prepare(damaged, tmp_path / "prepared", detect(content).sniffed, Profile())


async def test_an_animated_webp_keeps_its_frames(codec: Codec, folder: Path, tmp_path: Path) -> None:
    before = loaded(folder / "animation.gif", n=-1)
    made = await prepared(codec, tmp_path, before, ".webp", lossless=True)
    after = loaded(made.path, n=-1)
    assert (made.content_type, made.frames, made.height) == ("image/webp", 6, 256)
    assert after.get("delay") == before.get("delay")


async def test_an_animation_kept_as_it_is_is_decoded_whole(codec: Codec, folder: Path, tmp_path: Path) -> None:
    keep = Profile(format=ImageFormat.KEEP)
    made = await codec.prepare(folder / "animation.gif", tmp_path / "prepared", "image/gif", keep)
    assert (made.path, made.frames, made.width, made.height) == (folder / "animation.gif", 6, 256, 256)
    other = await codec.prepare(folder / "animation.gif", tmp_path / "prepared", "image/gif", Profile())
    assert made.thumbhash is not None
    assert made.thumbhash[:4] == (other.thumbhash or "")[:4]  # the first frame's colour, either way


async def test_a_document_of_several_pages_is_kept(codec: Codec, tmp_path: Path) -> None:
    pages = photo(300).copy()
    pages.set_type(pyvips.GValue.gint_type, "page-height", 100)
    made = await prepared(codec, tmp_path, pages, ".tiff")
    assert (made.path, made.frames, made.height) == (tmp_path / "source.tiff", 3, 100)


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
    with pytest.raises(FileCorruptedError, match="not image/png"):
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
