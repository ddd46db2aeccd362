"""The number of series of a process does not depend on the number of generations."""

import re
from uuid import uuid4

import pytest

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.errors import SourceForbiddenError
from handlers.pipeline import process
from handlers.pipeline.state import Batch, FileState, PipelineDeps
from handlers.pipeline.steps import download
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.jobs import JobFile, Profile
from tests.metric_values import metric_value
from tests.metrics.conftest import series_of
from worker.observability.metrics import Metrics

GENERATIONS = 10_000


def series(metrics):
    return series_of(metrics.render().decode())


def generation():
    name = str(uuid4())
    file = JobFile(position=0, url=f"https://{name}.example/{name}.png", source_key=name)
    return Batch((file,), name, name, Profile(), 1)


async def test_ten_thousand_generations_add_no_series(tmp_path):
    metrics = Metrics("1")
    before = series(metrics)
    settings = MediaSettings(_env_file=None, temp_dir=tmp_path)
    async with Downloader(settings, metrics) as downloader:
        deps = PipelineDeps(settings, downloader, Codec(settings, metrics), FolderStorage(tmp_path, "b"), metrics)
        for _ in range(GENERATIONS // 100):
            works = [generation() for _ in range(100)]
            for work in works[1:]:  # without the pipeline's folders, which take most of the time
                with downloader.disk_space(work.user_id) as space, pytest.raises(SourceForbiddenError):
                    await download(FileState(work.files[0], work, tmp_path, space), deps)
            (failed,) = (await process(works[0], deps)).failed
            assert failed.code == "source_forbidden"
    assert series(metrics) == before
    assert metric_value(metrics.source_denied.labels("not_allowed")) == GENERATIONS
    assert len(before) < 1000


def test_label_names_are_a_fixed_set():
    names = set(re.findall(r'[{,](\w+)="', Metrics("1").render().decode()))
    assert names == {
        *("source", "outcome", "queue", "code", "media", "stage", "reason", "operation", "dependency"),
        *("le", "version"),
    }
