"""Runs one file through the pipeline: `python -m tests.hostile.large_file_job URL FOLDER MAX_FILE_SIZE_MB`.

Prints as JSON: the stored sizes, the errors, the process's memory when idle and at its peak (bytes), and the seconds
that each step took.
"""

import json
import sys
from pathlib import Path

import uvloop

import worker.app  # noqa: F401 - a worker has loaded it before its first job
from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.observer import Observer
from handlers.pipeline import process
from handlers.pipeline.state import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.jobs import JobFile, Profile
from schemas.urls import source_key
from tests.hostile.measured_downloads import peak_memory, reset_peak_memory


class StageTimes(Observer):
    def __init__(self):
        self.seconds = {}

    def stage(self, stage, seconds):
        self.seconds[stage] = round(seconds, 2)


async def main(url, folder, max_file_size_mb):
    settings = MediaSettings(
        _env_file=None, source_allowlist=url, max_file_size_mb=max_file_size_mb, codec_processes=1, temp_dir=folder
    )
    observer, codec = StageTimes(), Codec(settings)
    async with Downloader(settings, observer) as downloader:
        deps = PipelineDeps(settings, downloader, codec, FolderStorage(folder / "stored", "generations"), observer)
        work = Batch((JobFile(position=0, url=url, source_key=source_key(url)),), "user", "generation", Profile(), 1)
        reset_peak_memory()
        idle = peak_memory()
        outcome = await process(work, deps)
        peak = peak_memory()
    await codec.aclose()
    result = {"stored": [file.file_size for file in outcome.stored], "failed": [file.error for file in outcome.failed]}
    sys.stdout.write(json.dumps(result | {"idle": idle, "peak": peak, "seconds": observer.seconds}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
