"""Where files end, by format: cases that the contract tests of all types do not have."""

import struct
from pathlib import Path
from zlib import crc32

import pytest
import pyvips

from handlers.errors import FileCorruptedError
from handlers.media import EncodeOptions, Limits
from handlers.media.formats import check_structure, cut_tail, riff
from handlers.media.image.colour import D65, SRGB_PRIMARIES, to_srgb
from handlers.media.image.colour_tags import space_of
from handlers.media.still import exr
from schemas.formats import ImageFormat
from tests.media_samples import media_sample

ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX\xd0\x07\0\0" + struct.pack("<III", 40, 1, 1 << 31) + bytes(8) + bytes(40)
ID3V2 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)


def end(folder: Path, content: bytes, content_type: str) -> int:
    (folder / "file").write_bytes(content)
    return check_structure(folder / "file", content_type)


def assert_refused(folder: Path, content: bytes, content_type: str, why: str) -> None:
    with pytest.raises(FileCorruptedError, match=why):
        end(folder, content, content_type)


@pytest.mark.parametrize("name", ["mp3", "mp3 without counts", "aac"])
@pytest.mark.parametrize("tag", [ID3V1, APE, APE + ID3V1, ID3V2])
def test_tags_after_the_last_audio_frame_belong_to_the_file(tmp_path: Path, name: str, tag: bytes) -> None:
    sample = media_sample(name)
    assert end(tmp_path, sample.content + tag, sample.content_type) == len(sample.content + tag)


@pytest.mark.parametrize("name", ["mp3", "mp3 without counts", "aac"])
@pytest.mark.parametrize("padding", [bytes(300), b"\xff" * 300])
def test_padding_after_the_last_audio_frame_is_cut_off(tmp_path: Path, name: str, padding: bytes) -> None:
    sample = media_sample(name)
    assert end(tmp_path, sample.content + padding, sample.content_type) == len(sample.content)


def test_joined_mp3_files_are_one_file(tmp_path: Path) -> None:
    one, other = media_sample("mp3 without counts").content, media_sample("mp3").content
    assert end(tmp_path, one + other, "audio/mpeg") == len(one + other)


def test_mp3_with_fewer_frames_than_declared_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, media_sample("mp3").content[: -2 * 192], "audio/mpeg", "declares")


def test_flipped_bit_in_a_flac_frame_is_refused(tmp_path: Path) -> None:
    content = media_sample("flac").content
    first = content.index(b"\xff\xf8", 8000)
    for at in range(first, len(content), 97):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        assert_refused(tmp_path, bytes(damaged), "audio/flac", "frame")


def test_flac_without_its_last_frame_is_refused(tmp_path: Path) -> None:
    content = media_sample("flac").content
    assert_refused(tmp_path, content[: content.rindex(b"\xff\xf8")], "audio/flac", "declares 48,000 samples")


def test_flac_ends_before_its_id3v1_tag(tmp_path: Path) -> None:
    content = media_sample("flac").content + ID3V1
    assert end(tmp_path, content, "audio/flac") == len(content) - len(ID3V1)


@pytest.mark.parametrize(("page", "why"), [(-1, "not complete"), (1, "missing before")])
def test_ogg_with_a_missing_page_is_refused(tmp_path: Path, page: int, why: str) -> None:
    pages = [b"OggS" + part for part in media_sample("ogg of opus").content.split(b"OggS")[1:]]
    assert len(pages) > 2
    del pages[page]
    assert_refused(tmp_path, b"".join(pages), "audio/ogg", why)


def test_chained_ogg_files_are_one_file(tmp_path: Path) -> None:
    content = media_sample("ogg of opus").content + media_sample("ogg of vorbis").content
    assert end(tmp_path, content, "audio/ogg") == len(content)


@pytest.mark.parametrize("unknown", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x00\x00\xff\x7f"])
def test_wav_of_unknown_length_ends_with_the_file(tmp_path: Path, unknown: bytes) -> None:
    content = media_sample("wav").content
    data = content.index(b"data") + 4
    streamed = content[:4] + unknown + content[8:data] + unknown + content[data + 4 :]
    assert end(tmp_path, streamed, "audio/wav") == len(content)


def test_wav_without_bits_is_refused(tmp_path: Path) -> None:
    content = bytearray(media_sample("wav").content + b"odd")
    content[32:36] = bytes(4)  # the size of a block, and the bits per sample
    assert_refused(tmp_path, bytes(content), "audio/wav", "0 bits in blocks of 0 bytes")


def test_matroska_element_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    content = bytearray(media_sample("mkv").content)
    content[content.index(b"Lavf") + 1] ^= 1
    assert_refused(tmp_path, bytes(content), "video/x-matroska", "checksum")


def test_jpeg_of_several_pictures_ends_after_the_last_one(tmp_path: Path) -> None:
    main, gain_map = media_sample("jpeg").content, media_sample("jpeg, progressive").content
    index = b"MPF\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0xB002, 7, 32, 26) + bytes(4)
    entries = len(index) + 32
    whole = len(main) + 4 + entries
    start = 2 + 4 + 4  # offsets count from the end of "MPF"
    index += struct.pack("<IIIHH", 0x030000, whole, 0, 0, 0)
    index += struct.pack("<IIIHH", 0, len(gain_map), whole - start, 0, 0)
    content = main[:2] + b"\xff\xe2" + (entries + 2).to_bytes(2, "big") + index + main[2:] + gain_map
    assert end(tmp_path, content + b"<html>", "image/jpeg") == len(content)
    assert_refused(tmp_path, content[:-1], "image/jpeg", "not complete")
    without = content[: -len(gain_map)]
    assert end(tmp_path, without, "image/jpeg") == len(without)
    moved = content.replace(struct.pack("<II", len(gain_map), whole - start), struct.pack("<II", len(gain_map), whole))
    assert end(tmp_path, moved + b"<html>", "image/jpeg") == len(content)


def test_copy_is_made_without_the_tail_and_only_if_there_is_one(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    sample = media_sample("mp4")
    source.write_bytes(sample.content)
    assert cut_tail(source, target, "video/mp4") == source
    source.write_bytes(sample.content + b"<html></html>")
    assert cut_tail(source, target, "video/mp4") == target
    assert target.read_bytes() == sample.content


@pytest.mark.parametrize("attribute", [b"channels\0chlist", b"dataWindow\0box2i", b"screenWindowWidth\0float"])
def test_exr_with_an_attribute_of_another_type_is_refused(tmp_path: Path, attribute: bytes) -> None:
    content = media_sample("exr").content
    damaged = content.replace(attribute, attribute[:-2] + b"\xff\xff", 1)
    assert len(damaged) == len(content)
    assert damaged != content
    assert_refused(tmp_path, damaged, "image/x-exr", "attribute")


def test_exr_cut_anywhere_in_its_header_is_refused(tmp_path: Path) -> None:
    content = media_sample("exr").content
    options = EncodeOptions(ImageFormat.AUTO, 80, strip_metadata=True, keep_provenance=False)
    limits = Limits(max_pixels=1_000_000, max_frames=1, max_memory=1 << 30, max_written=1 << 30, seconds=60)
    source = tmp_path / "source"
    for flags in (b"\2\0\0\0", b"\2\x10\0\0"):  # of one part, and of several
        for end in range(4, content.index(b"scanlineimage") + 20):
            source.write_bytes(content[:4] + flags + content[8:end])
            with pytest.raises(FileCorruptedError):
                exr.prepare(source, tmp_path / "target", "image/x-exr", options, limits)


def test_animation_frames_inside_each_other_are_refused(tmp_path: Path) -> None:
    frames = b""
    for _ in range(2000):
        frames = riff.encode_chunk(b"ANMF", bytes(16) + frames)
    body = b"WEBP" + riff.encode_chunk(b"VP8X", bytes(10)) + frames
    assert_refused(tmp_path, riff.encode_chunk(b"RIFF", body), "image/webp", "inside another one")


def test_clusters_inside_each_other_are_refused(tmp_path: Path) -> None:
    def element(kind: bytes, body: bytes) -> bytes:
        return kind + b"\x01" + len(body).to_bytes(7, "big") + body

    clusters = b""
    for _ in range(2000):
        clusters = element(b"\x1f\x43\xb6\x75", clusters)
    content = element(b"\x1a\x45\xdf\xa3", b"\x42\x82\x84webm") + element(b"\x18\x53\x80\x67", clusters)
    assert_refused(tmp_path, content, "video/webm", "inside another one")


@pytest.mark.parametrize("green", [(0.3, 0.3), (0.1, 0.1), (0.15, 0.06)])
def test_primaries_of_a_png_on_one_line_are_not_used(tmp_path: Path, green: tuple[float, float]) -> None:
    """The colours of such a file could not be converted to those of sRGB, and the file would be refused."""
    chosen = [(0.31, 0.33), (0.2, 0.2), green, (0.4, 0.4) if green[0] == green[1] else green]
    chrm = struct.pack(">8I", *(round(100_000 * value) for point in chosen for value in point))
    blank = pyvips.Image.black(8, 8, bands=3).pngsave_buffer()
    tags = [(b"gAMA", struct.pack(">I", 60_000)), (b"cHRM", chrm)]
    chunks = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body)) for kind, body in tags]
    (tmp_path / "file").write_bytes(blank[:33] + b"".join(chunks) + blank[33:])
    space = space_of(tmp_path / "file", "image/png")
    assert space is not None
    assert (space.primaries, space.white) == (SRGB_PRIMARIES, D65)
    assert to_srgb(pyvips.Image.new_from_file(str(tmp_path / "file")), space).avg() == 0
