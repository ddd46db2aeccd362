"""A pool of codec processes, and the names of all samples as a parameter."""

from collections.abc import AsyncIterator

import pytest

from handlers.codec.codec import Codec
from handlers.settings import MediaSettings
from tests.media_samples import MAKERS


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=2, max_image_pixels=1_000_000))
    yield codec
    await codec.aclose()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", MAKERS)
