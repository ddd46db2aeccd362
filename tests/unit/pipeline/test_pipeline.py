"""The pipeline with a real source, real codec processes and a folder as storage."""

import asyncio
import errno
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.observer import Observer
from handlers.pipeline import STEPS, process
from handlers.pipeline.state import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.files import ProcessedFile
from schemas.jobs import JobFile, Profile
from schemas.urls import source_key
from tests.time_limits import WAIT_SECONDS


class RecordingObserver(Observer):
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
    created = Codec(MediaSettings(_env_file=None, codec_processes=1))
    yield created
    asyncio.run(created.aclose())


@asynccontextmanager
async def deps(source, codec, tmp_path, **more):
    settings = MediaSettings(_env_file=None, source_allowlist=source.url, temp_dir=tmp_path)
    async with Downloader(settings) as downloader:
        storage = FolderStorage(tmp_path / "stored", "generations")
        yield PipelineDeps(settings, downloader, codec, storage, RecordingObserver(), **more)


async def test_the_steps_run_in_the_order_they_are_listed(source, codec, tmp_path):
    async with deps(source, codec, tmp_path) as pipeline_deps:
        outcome = await process(batch(source, "/files/photo.png"), pipeline_deps)
    (file,) = outcome.stored
    assert pipeline_deps.observer.stages == [step.__name__ for step in STEPS]
    assert pipeline_deps.observer.files == [("image", "stored")]
    assert pipeline_deps.observer.bytes == [(file.file_size, file.original_size - file.file_size)]
    assert (tmp_path / "stored" / file.path).stat().st_size == file.file_size < file.original_size
    assert file.path == f"user/{file.sha256[:2]}/{file.sha256}.jpg"
    assert file.thumbhash


async def test_a_failed_file_names_its_stage_and_does_not_stop_the_others(source, codec, tmp_path):
    paths = ["/files/none.png", "/files/photo.png", "/files/photo.png?status=503&retry_after=7"]
    async with deps(source, codec, tmp_path) as pipeline_deps:
        outcome = await process(batch(source, *paths), pipeline_deps)
    assert [file.position for file in outcome.stored] == [1]
    assert [(file.position, file.stage, file.code, file.retryable) for file in outcome.failed] == [
        (0, "download", "source_gone", True),
        (2, "download", "source_unavailable", True),
    ]
    assert outcome.failed[1].retry_after == 7


async def test_a_file_whose_folder_cannot_be_made_does_not_stop_the_others(source, codec, tmp_path, monkeypatch):
    make = Path.mkdir

    def mkdir(path, *arguments, **options):
        if path.name == "1" and path.is_relative_to(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    async with deps(source, codec, tmp_path) as pipeline_deps:
        outcome = await process(batch(source, "/files/photo.png", "/files/photo.jpg"), pipeline_deps)
    assert [file.position for file in outcome.stored] == [0]
    assert [(file.position, file.stage, file.code, file.retryable) for file in outcome.failed] == [
        (1, "start", "disk_full", True)
    ]


async def test_a_known_stored_file_is_deduplicated(source, codec, tmp_path):
    queries = []
    async with deps(source, codec, tmp_path) as pipeline_deps:
        (first,) = (await process(batch(source, "/files/photo.jpg"), pipeline_deps)).stored

        async def find_stored(*question):
            queries.append(question)
            return first

        again = PipelineDeps(
            pipeline_deps.settings,
            pipeline_deps.downloader,
            codec,
            pipeline_deps.storage,
            RecordingObserver(),
            find_stored,
        )
        (second,) = (await process(batch(source, "/files/photo.jpg?version=2"), again)).stored
        assert again.observer.stages == ["download", "detect", "deduplicate"]
        assert second.deduplicated
        assert (second.path, second.id != first.id) == (first.path, True)
        assert queries == [("user", first.source_sha256, Profile().key)]

        (tmp_path / "stored" / first.path).unlink()
        (third,) = (await process(batch(source, "/files/photo.jpg"), again)).stored
        assert not third.deduplicated
        assert (tmp_path / "stored" / third.path).exists()


async def test_an_unexpected_exception_is_retryable_and_logged(source, codec, tmp_path, caplog):
    async def broken(*_query):
        raise ZeroDivisionError

    async with deps(source, codec, tmp_path, find_stored=broken) as pipeline_deps:
        outcome = await process(batch(source, "/files/photo.jpg"), pipeline_deps)
    (failed,) = outcome.failed
    assert (failed.code, failed.retryable, failed.stage) == ("unexpected", True, "deduplicate")
    assert "ZeroDivisionError" in caplog.text


async def test_concurrency_is_limited_and_each_file_is_reported(source, codec, tmp_path):
    running, peak, reported = 0, 0, []
    pair = asyncio.Barrier(2)

    async def find_stored(*_query):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await pair.wait()  # until another file is at the same step
        running -= 1

    async def done(file, result):
        reported.append((file.position, result.source_key))

    paths = [f"/files/tone.wav?n={n}" for n in range(6)]
    async with deps(source, codec, tmp_path, find_stored=find_stored) as pipeline_deps:
        await process(batch(source, *paths, most=2), pipeline_deps, done)
    assert peak == 2
    assert sorted(position for position, _ in reported) == list(range(6))


async def test_another_users_file_waits_one_turn_for_a_codec_process(source, codec, tmp_path):
    ended = []
    flood = [f"/files/photo.png?n={n}" for n in range(8)]

    async def run(batch_of_user):
        async def done(_file, result):
            assert isinstance(result, ProcessedFile)
            ended.append(batch_of_user.user_id)

        await process(batch_of_user, pipeline_deps, done)

    async with deps(source, codec, tmp_path) as pipeline_deps, asyncio.TaskGroup() as group:
        group.create_task(run(batch(source, *flood, most=8)))
        async with asyncio.timeout(WAIT_SECONDS):
            while codec.turns.free:
                await asyncio.sleep(0.001)
        group.create_task(run(replace(batch(source, "/files/photo.png?other"), user_id="other")))
    assert ended.index("other") < len(flood) - 1
    assert codec.turns.free == codec.turns.capacity


async def test_temporary_folders_are_removed_after_completion_and_cancellation(source, codec, tmp_path):
    async with deps(source, codec, tmp_path) as pipeline_deps:
        await process(batch(source, "/files/photo.png", "/files/none.png"), pipeline_deps)
        task = asyncio.create_task(process(batch(source, "/files/photo.png?slow=10000"), pipeline_deps))
        async with asyncio.timeout(WAIT_SECONDS):
            while not list(tmp_path.glob("outlast-*/source")):
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert list(tmp_path.glob("outlast-*")) == []
