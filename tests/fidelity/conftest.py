"""The codec that prepares all images."""

from collections.abc import AsyncIterator

import pytest

from handlers.codec.codec import Codec
from handlers.settings import MediaSettings


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=2, max_image_pixels=5_000_000))
    yield codec
    await codec.aclose()
