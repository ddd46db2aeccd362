"""The Prometheus metrics of one process. The pipeline reports to them through `handlers.observer.Observer`.

Each process serves its own metrics, and Prometheus adds them up; a worker also reports for its codec processes.
`metric_families.py` has the names, `metric_labels.py` the values of the labels.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from prometheus_client import generate_latest

from handlers.codec.codec import CodecStats
from handlers.observer import Observer
from worker.observability.metric_families import Families


class Metrics(Families, Observer):
    """The metrics of one process, and the Observer that the pipeline reports to."""

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def stage(self, stage: str, seconds: float) -> None:
        """Record the duration of a pipeline step, successful or not."""
        self.stage_duration.labels(stage).observe(seconds)

    def file(self, media: str, outcome: str) -> None:
        """Count a file by its outcome."""
        self.files.labels(media, outcome).inc()
        if outcome == "deduplicated":
            self.deduplicated.inc()

    def error(self, code: str) -> None:
        """Count an error of a file or job."""
        self.errors.labels(code).inc()

    def downloaded(self, size: int) -> None:
        """Count bytes received from sources."""
        self.bytes_downloaded.inc(size)

    def stored(self, size: int, saved: int) -> None:
        """Count the bytes of a new object, and the bytes that compression saved."""
        self.bytes_stored.inc(size)
        self.bytes_saved.inc(max(0, saved))

    def denied(self, reason: str) -> None:
        """Count a refused source URL."""
        self.source_denied.labels(reason).inc()

    def storage(self, operation: str, outcome: str) -> None:
        """Count a request to Storage."""
        self.storage_requests.labels(operation, outcome).inc()

    def called(self, calls: int) -> None:
        """Record the number of calls in a request to the database."""
        self.calls_per_request.observe(calls)

    def codec_restarted(self, reason: str) -> None:
        """Count a codec process that was replaced."""
        self.codec_restarts.labels(reason).inc()

    def record_sweep(self, found: int, oldest_seconds: float) -> None:
        """Record the result of a sweep. Dashboards use the figures of the worker that swept last."""
        self.unreconciled_generations.set(found)
        self.oldest_unreconciled.set(oldest_seconds)
        self.last_sweep.set(time.time())

    def watch_codec(self, stats: Callable[[], CodecStats]) -> None:
        """Read the number of codec processes whenever the metrics are read."""
        for state in ("busy", "idle"):
            self.codec_processes.labels(state).set_function(partial(_processes, stats, state))

    def watch_waiting(self, waiting: Callable[[], Mapping[str, int]]) -> None:
        """Read the numbers of files that wait, by resource, whenever the metrics are read."""
        for resource in waiting():
            self.files_waiting.labels(resource).set_function(partial(_waiting, waiting, resource))

    def watch_disk(self, folder: Path) -> None:
        """Read the free space for temporary files whenever the metrics are read."""
        self.temp_free.set_function(partial(_free_bytes, folder))


def _processes(stats: Callable[[], CodecStats], state: str) -> float:
    return stats().processes[state]


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # the folder was removed; the next attempt reports it
        return 0


def _waiting(waiting: Callable[[], Mapping[str, int]], resource: str) -> float:
    return waiting()[resource]
