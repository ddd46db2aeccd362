"""The pipeline with a real source, real codec processes and a folder for storage."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.observer import Observer
from handlers.pipeline import STEPS, process
from handlers.pipeline.steps import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.jobs import JobFile, Profile
from schemas.urls import source_key
from tests.time_limits import WAIT_SECONDS


class Watch(Observer):
    def __init__(self):
        self.stages, self.files, self.bytes = [], [], []

    def stage(self, stage, seconds):
        assert seconds >= 0
        self.stages.append(stage)

    def file(self, media, outcome):
        self.files.append((str(media), outcome))

    def stored(self, size, saved):
        self.bytes.append((size, saved))


def batch(source, *paths, most=3):
    files = tuple(
        JobFile(position=n, url=f"{source.url}{path}", source_key=source_key(f"{source.url}{path}"))
        for n, path in enumerate(paths)
    )
    return Batch(files, "user", "generation", Profile(), most)


@pytest.fixture(scope="module")
def codec():
    made = Codec(MediaSettings(_env_file=None, codec_processes=1))
    yield made
    asyncio.run(made.aclose())


@asynccontextmanager
async def deps(source, codec, tmp_path, **more):
    settings = MediaSettings(_env_file=None, source_allowlist=source.url, temp_dir=tmp_path)
    async with Downloader(settings) as downloader:
        storage = FolderStorage(tmp_path / "stored", "generations")
        yield PipelineDeps(settings, downloader, codec, storage, Watch(), **more)


async def test_the_steps_run_in_the_order_they_are_listed(source, codec, tmp_path):
    async with deps(source, codec, tmp_path) as with_:
        outcome = await process(batch(source, "/files/photo.png"), with_)
    (file,) = outcome.stored
    assert with_.observer.stages == [step.__name__ for step in STEPS]
    assert with_.observer.files == [("image", "stored")]
    assert with_.observer.bytes == [(file.file_size, file.original_size - file.file_size)]
    assert (tmp_path / "stored" / file.path).stat().st_size == file.file_size < file.original_size
    assert file.path == f"user/{file.sha256[:2]}/{file.sha256}.jpg"
    assert file.thumbhash


async def test_a_failure_names_its_stage_and_stops_nobody_else(source, codec, tmp_path):
    paths = ["/files/none.png", "/files/photo.png", "/files/photo.png?status=503&retry_after=7"]
    async with deps(source, codec, tmp_path) as with_:
        outcome = await process(batch(source, *paths), with_)
    assert [file.position for file in outcome.stored] == [1]
    assert [(file.position, file.stage, file.code, file.retryable) for file in outcome.failed] == [
        (0, "download", "source_gone", False),
        (2, "download", "source_unavailable", True),
    ]
    assert outcome.failed[1].retry_after == 7


async def test_what_is_known_and_there_is_not_done_again(source, codec, tmp_path):
    asked = []
    async with deps(source, codec, tmp_path) as with_:
        (first,) = (await process(batch(source, "/files/photo.jpg"), with_)).stored

        async def known(*question):
            asked.append(question)
            return first

        again = PipelineDeps(with_.settings, with_.downloader, codec, with_.storage, Watch(), known)
        (second,) = (await process(batch(source, "/files/photo.jpg?version=2"), again)).stored
        assert again.observer.stages == ["download", "detect", "deduplicate"]
        assert second.deduplicated
        assert (second.path, second.id != first.id) == (first.path, True)
        assert asked == [("user", first.source_sha256, Profile().key)]

        (tmp_path / "stored" / first.path).unlink()
        (third,) = (await process(batch(source, "/files/photo.jpg"), again)).stored
        assert not third.deduplicated
        assert (tmp_path / "stored" / third.path).exists()


async def test_an_exception_nobody_foresaw_is_retryable_and_logged(source, codec, tmp_path, caplog):
    async def broken(*_question):
        raise ZeroDivisionError

    async with deps(source, codec, tmp_path, known=broken) as with_:
        outcome = await process(batch(source, "/files/photo.jpg"), with_)
    (failed,) = outcome.failed
    assert (failed.code, failed.retryable, failed.stage) == ("unexpected", True, "deduplicate")
    assert "ZeroDivisionError" in caplog.text


async def test_no_more_than_asked_at_once_and_each_is_told(source, codec, tmp_path):
    running, most, told = 0, 0, []

    async def known(*_question):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    async def done(file, result):
        told.append((file.position, result.source_key))

    paths = [f"/files/tone.wav?n={n}" for n in range(6)]
    async with deps(source, codec, tmp_path, known=known) as with_:
        await process(batch(source, *paths, most=2), with_, done)
    assert most == 2
    assert sorted(position for position, _ in told) == list(range(6))


async def test_nothing_stays_in_the_temporary_folder_even_when_cancelled(source, codec, tmp_path):
    async with deps(source, codec, tmp_path) as with_:
        await process(batch(source, "/files/photo.png", "/files/none.png"), with_)
        task = asyncio.create_task(process(batch(source, "/files/photo.png?slow=10000"), with_))
        async with asyncio.timeout(WAIT_SECONDS):
            while not list(tmp_path.glob("outlast-*/0/source")):
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert list(tmp_path.glob("outlast-*")) == []
