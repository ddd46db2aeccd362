"""Bring one file home as a worker does: `python -m tests.hostile.large_file_job URL FOLDER MAX_FILE_SIZE_MB`.

Prints as JSON what was stored, what the process weighed when it was idle and at most, and what the steps took.
"""

import json
import sys
from pathlib import Path

import uvloop

import worker.app  # noqa: F401 - what a worker has loaded before its first job
from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.observer import Observer
from handlers.pipeline import process
from handlers.pipeline.steps import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.jobs import JobFile, Profile
from schemas.urls import source_key
from tests.hostile.measured_downloads import forget_peak, peak


class Watch(Observer):
    def __init__(self):
        self.seconds = {}

    def stage(self, stage, seconds):
        self.seconds[stage] = round(seconds, 2)


async def main(url, folder, largest):
    settings = MediaSettings(
        _env_file=None, source_allowlist=url, max_file_size_mb=largest, codec_processes=1, temp_dir=folder
    )
    watch, codec = Watch(), Codec(settings)
    async with Downloader(settings, watch) as downloader:
        deps = PipelineDeps(settings, downloader, codec, FolderStorage(folder / "stored", "generations"), watch)
        work = Batch((JobFile(position=0, url=url, source_key=source_key(url)),), "user", "generation", Profile(), 1)
        forget_peak()
        idle = peak()
        outcome = await process(work, deps)
        most = peak()
    await codec.aclose()
    told = {"stored": [file.file_size for file in outcome.stored], "failed": [file.error for file in outcome.failed]}
    sys.stdout.write(json.dumps(told | {"idle": idle, "most": most, "seconds": watch.seconds}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
