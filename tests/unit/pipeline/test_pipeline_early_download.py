"""The download that starts before the database has answered."""

import asyncio
import gc
from dataclasses import replace
from functools import partial

from handlers.download import Downloader
from handlers.errors import SourceGoneError
from handlers.pipeline import process
from handlers.pipeline.early import early_download
from handlers.pipeline.steps import fetch_source
from handlers.settings import MediaSettings
from tests.time_limits import WAIT_SECONDS
from tests.unit.pipeline.test_pipeline import batch, codec, deps  # noqa: F401 - a fixture


async def test_the_file_is_requested_once_and_processed_in_its_folder(source, codec, tmp_path):  # noqa: F811
    async with deps(source, codec, tmp_path) as pipeline_deps:
        wanted = batch(source, "/files/photo.png")
        fetch = partial(fetch_source, pipeline_deps, wanted.files[0].url)
        before = source.hits["photo.png"]
        async with early_download(pipeline_deps.downloader, "user", tmp_path, fetch) as early:
            outcome = await process(replace(wanted, early=early), pipeline_deps)
            assert (early.folder / "source").is_file()
        assert [file.position for file in outcome.stored] == [0]
        assert source.hits["photo.png"] == before + 1
    assert list(tmp_path.glob("outlast-*")) == []


async def test_an_error_of_the_download_is_that_of_the_step(source, codec, tmp_path):  # noqa: F811
    async with deps(source, codec, tmp_path) as pipeline_deps:
        wanted = batch(source, "/files/none.png")
        fetch = partial(fetch_source, pipeline_deps, wanted.files[0].url)
        async with early_download(pipeline_deps.downloader, "user", tmp_path, fetch) as early:
            (failed,) = (await process(replace(wanted, early=early), pipeline_deps)).failed
    assert (failed.stage, failed.code) == ("download", "source_gone")


async def test_a_job_that_is_not_run_ends_its_download(tmp_path):
    ended = asyncio.Event()

    async def fetch(target, _space):
        target.write_bytes(b"begun")
        try:
            await asyncio.sleep(WAIT_SECONDS)
        finally:
            ended.set()

    async with early_download(Downloader(MediaSettings(_env_file=None)), "user", tmp_path, fetch):
        while not list(tmp_path.glob("outlast-*/source")):
            await asyncio.sleep(0)
    assert ended.is_set()
    assert list(tmp_path.glob("outlast-*")) == []


async def test_an_error_that_nobody_waits_for_is_not_reported(tmp_path, caplog):
    async def fetch(_target, _space):
        raise SourceGoneError("gone")

    async with early_download(Downloader(MediaSettings(_env_file=None)), "user", tmp_path, fetch):
        await asyncio.sleep(0)
    gc.collect()
    assert caplog.records == []
