"""Every page of a TIFF file is decoded, also those in CIELAB of 8 bits, which libvips does not decode."""

import io
from pathlib import Path

import pytest
import pyvips
from PIL import Image

from handlers.errors import FileCorruptedError
from handlers.media import EncodeOptions, Limits
from handlers.media.image import prepare
from schemas.formats import ImageFormat

SIDE = 64
OPTIONS = EncodeOptions(ImageFormat.AUTO, 80, strip_metadata=True, keep_provenance=False)
LIMITS = Limits(max_pixels=1_000_000, max_frames=10, max_memory=1 << 30, max_written=1 << 30, seconds=60)


def pages(*modes: str) -> bytes:
    """Return a TIFF file with a page in each of these modes."""
    grey = Image.radial_gradient("L").resize((SIDE, SIDE))
    images = [Image.merge(mode, [grey, grey, grey]) for mode in modes]
    output = io.BytesIO()
    images[0].save(output, "TIFF", compression="tiff_adobe_deflate", save_all=True, append_images=images[1:])
    return output.getvalue()


def with_damaged_page(content: bytes, page: int) -> bytes:
    """Return the file with the first bytes of a page's pixels overwritten."""
    with Image.open(io.BytesIO(content)) as image:
        image.seek(page)
        start = image.tag_v2[273][0]
    return content[:start] + b"\xff" * 20 + content[start + 20 :]


def stored(folder: Path, content: bytes) -> bytes:
    source = folder / "source"
    source.write_bytes(content)
    return prepare(source, folder / "target", "image/tiff", OPTIONS, LIMITS).path.read_bytes()


@pytest.mark.parametrize("modes", [["LAB", "LAB"], ["LAB", "RGB"], ["RGB", "LAB"]], ids="+".join)
def test_pages_in_cielab_and_rgb_are_kept(tmp_path: Path, modes: list[str]) -> None:
    found = stored(tmp_path, pages(*modes))
    with Image.open(io.BytesIO(found)) as image:
        assert image.n_frames == 2


@pytest.mark.parametrize("modes", [["LAB"], ["LAB", "LAB"], ["LAB", "RGB"], ["RGB", "LAB"]], ids="+".join)
def test_damaged_last_page_is_refused(tmp_path: Path, modes: list[str]) -> None:
    damaged = with_damaged_page(pages(*modes), len(modes) - 1)
    with pytest.raises((FileCorruptedError, pyvips.Error)):  # the codec reports both as corrupted
        stored(tmp_path, damaged)
