"""Every metric, in one place; the domain reports to the Observer and knows nothing of Prometheus.

Names have the prefix `outlast_` and base units; labels have few values. A family with labels shows HELP and TYPE from
the start, its series as they occur.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from handlers.codec import CodecStats
from handlers.observer import Observer

WEBHOOK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5)
STAGE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
AGE_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Metrics(Observer):
    """One process's metrics in a registry of their own, and what the pipeline reports to."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._intake()
        self._jobs()
        self._files()
        build = Info("outlast_build", "The running version.", registry=self.registry)
        build.info({"version": version})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"outlast_{name}", text, labels, registry=self.registry)

    def _seconds(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"outlast_{name}_seconds", text, labels, buckets=buckets, registry=self.registry)

    def _intake(self) -> None:
        self.webhooks = self._counter("webhooks", "Webhooks received, by what became of them.", "source", "outcome")
        self.webhook_duration = self._seconds(
            "webhook_duration", "From a webhook's last byte to its answer.", WEBHOOK_SECONDS, "source"
        )
        self.publish_duration = self._seconds(
            "publish_duration", "From publishing a message to the broker's confirm.", WEBHOOK_SECONDS
        )
        self.signature_rejected = self._counter(
            "signature_rejected", "Webhooks refused for secret, signature or age.", "source"
        )

    def _jobs(self) -> None:
        self.jobs = self._counter("jobs", "Deliveries handled, by how they ended.", "queue", "outcome")
        self.job_duration = self._seconds("job_duration", "Time a delivery was worked on.", STAGE_SECONDS, "queue")
        self.job_age = self._seconds("job_age", "From the event to its files being stored.", AGE_SECONDS)
        self.jobs_in_progress = Gauge("outlast_jobs_in_progress", "Deliveries in work now.", registry=self.registry)
        self.circuit_open = Gauge(
            "outlast_circuit_open",
            "1 while a dependency is away and no jobs are taken.",
            ["dependency"],
            registry=self.registry,
        )
        self.unreconciled_generations = Gauge(
            "outlast_unreconciled_generations", "Generations and tasks the last sweep found.", registry=self.registry
        )
        self.oldest_unreconciled = Gauge(
            "outlast_oldest_unreconciled_seconds", "Age of the oldest of them.", registry=self.registry
        )
        self.retries = self._counter("retries", "Jobs put off to another attempt.", "code")
        self.dead_letters = self._counter("dead_letters", "Messages put among the dead letters.", "code")
        self.dead_letters_replayed = self._counter("dead_letters_replayed", "Dead letters put back on their queue.")

    def _files(self) -> None:
        self.files = self._counter("files", "Files that ended an attempt.", "media", "outcome")
        self.stage_duration = self._seconds("stage_duration", "Time in one step.", STAGE_SECONDS, "stage")
        self.errors = self._counter("errors", "Errors of files and jobs.", "code")
        self.bytes_downloaded = self._counter("bytes_downloaded", "Bytes received from sources.")
        self.bytes_stored = self._counter("bytes_stored", "Bytes of new objects.")
        self.bytes_saved = self._counter("bytes_saved", "Bytes that compression saved.")
        self.objects_removed = self._counter("objects_removed", "Objects removed because nothing pointed at them.")
        self.deduplicated = self._counter("deduplicated_files", "Files that were stored already.")
        self.source_denied = self._counter("source_denied", "Source URLs refused; *_reported: would be.", "reason")
        self.storage_requests = self._counter("storage_requests", "Requests to Storage.", "operation", "outcome")
        self.codec_restarts = self._counter("codec_restarts", "Codec processes that crashed or hung.", "reason")
        self.codec_processes = Gauge("outlast_codec_processes", "Codec processes.", ["state"], registry=self.registry)

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

    def watch_codec(self, stats: Callable[[], CodecStats]) -> None:
        """Ask for the codec's processes whenever somebody asks us."""
        for state in ("busy", "idle"):
            self.codec_processes.labels(state).set_function(partial(_processes, stats, state))


def _processes(stats: Callable[[], CodecStats], state: str) -> float:
    return stats().processes[state]
