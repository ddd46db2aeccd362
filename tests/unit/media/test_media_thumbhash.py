import base64

import pytest

from handlers.media.image.thumbhash import thumbhash


def average(encoded: str) -> tuple[float, float, float, float]:
    """Decode the average colour, as the reference's thumbHashToAverageRGBA does."""
    content = base64.b64decode(encoded)
    header = int.from_bytes(content[:3], "little")
    light, yellow, red = (header & 63) / 63, (header >> 6 & 63) / 31.5 - 1, (header >> 12 & 63) / 31.5 - 1
    alpha = (content[5] & 15) / 15 if header >> 23 else 1.0
    blue = light - 2 / 3 * yellow
    strong = (3 * light - blue + red) / 2
    return strong, strong - red, blue, alpha


@pytest.mark.parametrize("colour", [(0, 0, 0, 255), (255, 255, 255, 255), (200, 30, 60, 255), (10, 120, 240, 128)])
@pytest.mark.parametrize(("width", "height"), [(32, 32), (32, 7), (1, 1), (3, 100)])
def test_average_of_one_colour_is_that_colour(colour: tuple[int, int, int, int], width: int, height: int) -> None:
    found = average(thumbhash(width, height, bytes(colour) * width * height))
    assert found == pytest.approx([value / 255 for value in colour], abs=0.06)


def noise(*, alpha: bool) -> bytes:
    """32x20 pixels of the C standard's example generator, which is the same on every machine."""
    state, values = 1, bytearray()
    for at in range(32 * 20 * 4):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        values.append(255 if at % 4 == 3 and not alpha else state >> 16 & 255)
    return bytes(values)


@pytest.mark.parametrize(
    ("alpha", "known"), [(False, "HwgCDIKXtH+Fpnxw4o341fNXlQ=="), (True, "HxiCA4AHa7GmpqDzhZREApCIuMu4VIs=")]
)
def test_hash_equals_that_of_another_encoder(*, alpha: bool, known: str) -> None:
    assert thumbhash(32, 20, noise(alpha=alpha)) == known


@pytest.mark.parametrize(("width", "height", "size"), [(101, 1, 404), (0, 0, 0), (2, 2, 15)])
def test_wrong_size_is_refused(width: int, height: int, size: int) -> None:
    with pytest.raises(ValueError, match="a side has at most"):
        thumbhash(width, height, bytes(size))
