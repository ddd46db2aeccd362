"""Every decompression bomb ends with its error code by its header alone; no process ends, the worker does not grow."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from handlers.errors import FileProcessingError
from handlers.media import MEDIA_TYPES, Kind
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.codec_processes import codec_pool, codec_process_pids, make_picture, prepares_picture
from tests.hostile.bombs import BOMBS
from tests.time_limits import LONG_WAIT_SECONDS

ROOT = Path(__file__).parents[2]
MAX_GROWTH = 30 << 20
LARGEST_FILE = 50 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All bombs as files, made by another process, because this one's memory is measured."""
    folder = tmp_path_factory.mktemp("bombs")
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "tests.hostile.bombs", str(folder)], check=True, cwd=ROOT, timeout=LONG_WAIT_SECONDS
    )
    return folder


@pytest.fixture(scope="module")
async def codec():
    async with codec_pool(codec_processes=1) as codec:
        yield codec


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return make_picture(tmp_path_factory.mktemp("good"))


async def outcome_of(codec, folder, target, name, profile):
    """Return the error code, or None if it is stored; the message if the error is retryable or a time-out."""
    try:
        await codec.prepare(folder / name, target, BOMBS[name][0], profile)
    except FileProcessingError as error:
        is_final = not error.retryable and "CODEC_TIMEOUT_SECONDS" not in str(error)
        return error.code if is_final else str(error)
    return None


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_ends_with_its_code_and_the_next_file_works(codec, folder, picture, tmp_path, name):
    assert 0 < (folder / name).stat().st_size <= LARGEST_FILE, "a larger file would be refused by the download"
    assert await outcome_of(codec, folder, tmp_path / "out", name, Profile()) == BOMBS[name][2]
    before = codec_process_pids()
    assert await prepares_picture(codec, picture)
    assert codec_process_pids() == before
    assert codec.stats().restarts == {}


def test_every_image_type_has_a_bomb():
    images = {media.content_type for media in MEDIA_TYPES if media.kind is Kind.IMAGE}
    assert images <= {content_type for content_type, _, _ in BOMBS.values()}


async def test_all_bombs_at_once_do_not_grow_the_worker(folder, picture, tmp_path):
    keep = Profile(format=ImageFormat.KEEP, strip_metadata=False)
    async with codec_pool(codec_timeout_seconds=LONG_WAIT_SECONDS) as codec:
        assert await prepares_picture(codec, picture)
        before = psutil.Process().memory_info().rss
        targets = {name: tmp_path / str(number) for number, name in enumerate(BOMBS)}
        bombs = [outcome_of(codec, folder, target, name, keep) for name, target in targets.items()]
        good = [prepares_picture(codec, picture) for _ in BOMBS]
        results = await asyncio.gather(*bombs, *good)
        assert results == [code for _, _, code in BOMBS.values()] + [True] * len(good)
        assert psutil.Process().memory_info().rss - before < MAX_GROWTH
        assert codec.stats().restarts == {}
