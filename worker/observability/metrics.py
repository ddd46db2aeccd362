"""What one process tells Prometheus; the domain reports to the Observer and knows nothing of it.

Each process serves its own metrics and Prometheus adds them up; codec processes report through the one they belong to.
`metric_families` has the names, `metric_labels` the values of the labels.
"""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from prometheus_client import generate_latest

from handlers.codec.codec import CodecStats
from handlers.observer import Observer
from worker.observability.metric_families import Families


class Metrics(Families, Observer):
    """One process's metrics, and what the pipeline reports to."""

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def stage(self, stage: str, seconds: float) -> None:
        """Note that a pipeline step ran, well or not."""
        self.stage_duration.labels(stage).observe(seconds)

    def file(self, media: str, outcome: str) -> None:
        """Note that a file ended an attempt."""
        self.files.labels(media, outcome).inc()
        if outcome == "deduplicated":
            self.deduplicated.inc()

    def error(self, code: str) -> None:
        """Note an error."""
        self.errors.labels(code).inc()

    def downloaded(self, size: int) -> None:
        """Count bytes received."""
        self.bytes_downloaded.inc(size)

    def stored(self, size: int, saved: int) -> None:
        """Count bytes of a new object, and those compression saved."""
        self.bytes_stored.inc(size)
        self.bytes_saved.inc(max(0, saved))

    def denied(self, reason: str) -> None:
        """Note a refused source."""
        self.source_denied.labels(reason).inc()

    def storage(self, operation: str, outcome: str) -> None:
        """Note a request to Storage."""
        self.storage_requests.labels(operation, outcome).inc()

    def codec_restarted(self, reason: str) -> None:
        """Note a codec process that had to be replaced."""
        self.codec_restarts.labels(reason).inc()

    def swept(self, found: int, oldest_seconds: float) -> None:
        """Note what a sweep found. Of several workers' figures the one of the last sweep counts."""
        self.unreconciled_generations.set(found)
        self.oldest_unreconciled.set(oldest_seconds)
        self.last_sweep.set(time.time())

    def watch_codec(self, stats: Callable[[], CodecStats]) -> None:
        """Ask for the codec's processes whenever somebody asks us."""
        for state in ("busy", "idle"):
            self.codec_processes.labels(state).set_function(partial(_processes, stats, state))

    def watch_disk(self, folder: Path) -> None:
        """Ask for the room where temporary files lie whenever somebody asks us."""
        self.temp_free.set_function(partial(_free, folder))


def _processes(stats: Callable[[], CodecStats], state: str) -> float:
    return stats().processes[state]


def _free(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # it was removed; what needs it will say so
        return 0
