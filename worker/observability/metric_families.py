"""The families of metrics: names, help texts, labels. Names have the prefix `outlast_` and base units."""

import math
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from worker.observability import metric_labels as values

# A second series for each, of a moment that process_start_time_seconds tells as well.
disable_created_metrics()  # type: ignore[no-untyped-call]

NONE: Final[values.Values] = ()


class Families:
    """Every family in a registry of its own, all their series from the start."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._intake()
        self._jobs()
        self._sweep()
        self._files()
        self._outside()
        self._surroundings()
        build = Info("outlast_build", "The running version.", registry=self.registry)
        build.info({"version": version})
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, known: values.Values = NONE, *labels: str) -> Counter:
        counter = Counter(f"outlast_{name}", text, labels, registry=self.registry)
        for combination in known:
            counter.labels(*combination)
        return counter

    def _seconds(
        self, name: str, text: str, buckets: tuple[float, ...], known: values.Values = NONE, *labels: str
    ) -> Histogram:
        text = f"{text}, in seconds."
        histogram = Histogram(f"outlast_{name}_seconds", text, labels, buckets=buckets, registry=self.registry)
        for combination in known:
            histogram.labels(*combination)
        return histogram

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"outlast_{name}", text, labels, registry=self.registry)

    def _intake(self) -> None:
        self.webhooks = self._counter(
            "webhooks", "Webhooks received, by what became of them.", values.WEBHOOKS, "source", "outcome"
        )
        self.webhook_duration = self._seconds(
            "webhook_duration",
            "From a webhook's last byte to its answer",
            values.WEBHOOK_SECONDS,
            values.SOURCE,
            "source",
        )
        self.publish_duration = self._seconds(
            "publish_duration", "From publishing a message to the broker's confirm", values.WEBHOOK_SECONDS
        )
        self.signature_rejected = self._counter(
            "signature_rejected", "Webhooks refused for secret, signature or age.", values.SOURCE, "source"
        )

    def _jobs(self) -> None:
        self.jobs_published = self._counter(
            "jobs_published",
            "Messages put on a work queue: new jobs, jobs handed back by a shutdown, chores.",
            values.QUEUES,
            "queue",
        )
        self.jobs = self._counter("jobs", "Deliveries handled, by how they ended.", values.JOBS, "queue", "outcome")
        self.job_duration = self._seconds(
            "job_duration", "Time a delivery was worked on", values.JOB_SECONDS, values.QUEUES, "queue"
        )
        self.job_age = self._seconds("job_age", "From the event to its files being stored", values.AGE_SECONDS)
        self.jobs_in_progress = self._gauge("jobs_in_progress", "Deliveries in work now.")
        self.retries = self._counter("retries", "Jobs put off to another attempt.", values.CODE, "code")
        self.dead_letters = self._counter("dead_letters", "Messages put among the dead letters.", values.CODE, "code")
        self.dead_letters_replayed = self._counter("dead_letters_replayed", "Dead letters put back on their queue.")

    def _sweep(self) -> None:
        self.unreconciled_generations = self._gauge(
            "unreconciled_generations", "Generations and tasks that this process's last sweep found."
        )
        self.oldest_unreconciled = self._gauge(
            "oldest_unreconciled_seconds", "Age of the oldest of them when it was found, in seconds."
        )
        self.last_sweep = self._gauge(
            "last_sweep_timestamp_seconds", "When this process last swept, in seconds since 1970; 0: it never did."
        )

    def _files(self) -> None:
        self.files = self._counter("files", "Files that ended an attempt.", values.FILES, "media", "outcome")
        self.stage_duration = self._seconds(
            "stage_duration", "Time in one step", values.STAGE_SECONDS, values.STAGES, "stage"
        )
        self.errors = self._counter("errors", "Errors of files and jobs.", values.CODE, "code")
        self.bytes_downloaded = self._counter("bytes_downloaded", "Bytes received from sources.")
        self.bytes_stored = self._counter("bytes_stored", "Bytes of new objects.")
        self.bytes_saved = self._counter("bytes_saved", "Bytes that compression saved.")
        self.deduplicated = self._counter("deduplicated_files", "Files that were stored already.")

    def _outside(self) -> None:
        self.objects_removed = self._counter("objects_removed", "Objects removed because nothing pointed at them.")
        self.source_denied = self._counter(
            "source_denied", "Source URLs refused, by rule; not_allowed_reported: would be.", values.DENIALS, "reason"
        )
        self.storage_requests = self._counter(
            "storage_requests", "Requests to Storage.", values.STORAGE, "operation", "outcome"
        )
        self.circuit_open = self._gauge(
            "circuit_open", "1 while a dependency is away and this process takes no jobs.", "dependency"
        )
        for combination in values.DEPENDENCIES:
            self.circuit_open.labels(*combination)

    def _surroundings(self) -> None:
        self.codec_restarts = self._counter(
            "codec_restarts", "Codec processes that were replaced, by reason.", values.RESTARTS, "reason"
        )
        self.codec_processes = self._gauge("codec_processes", "Codec processes, by state.", "state")
        self.temp_free = self._gauge("temp_free_bytes", "Bytes free on the file system of TEMP_DIR; NaN: not used.")
        self.temp_free.set(math.nan)
