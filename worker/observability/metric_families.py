"""The metric families: names, help texts, labels. Names have the prefix `outlast_` and base units."""

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

# The `_created` series would double the number of series, and process_start_time_seconds has nearly the same value.
disable_created_metrics()  # type: ignore[no-untyped-call]

NONE: Final[values.Values] = ()


class Families:
    """All metric families, in a separate registry. All series exist from the start."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._receiver()
        self._jobs()
        self._sweep()
        self._files()
        self._storage_and_dependencies()
        self._process()
        build = Info("outlast_build", "The running version.", registry=self.registry)
        build.info({"version": version})
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, known: values.Values = NONE, *labels: str) -> Counter:
        counter = Counter(f"outlast_{name}", text, labels, registry=self.registry)
        for combination in known:
            counter.labels(*combination)
        return counter

    def _duration_histogram(
        self, name: str, text: str, buckets: tuple[float, ...], known: values.Values = NONE, *labels: str
    ) -> Histogram:
        text = f"{text}, in seconds."
        histogram = Histogram(f"outlast_{name}_seconds", text, labels, buckets=buckets, registry=self.registry)
        for combination in known:
            histogram.labels(*combination)
        return histogram

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"outlast_{name}", text, labels, registry=self.registry)

    def _receiver(self) -> None:
        self.webhooks = self._counter(
            "webhooks", "Webhooks received, by outcome.", values.WEBHOOKS, "source", "outcome"
        )
        self.webhook_duration = self._duration_histogram(
            "webhook_duration",
            "Time from the last byte of a webhook to its response",
            values.WEBHOOK_SECONDS,
            values.SOURCE,
            "source",
        )
        self.publish_duration = self._duration_histogram(
            "publish_duration", "Time from publishing a message to the broker's confirm", values.WEBHOOK_SECONDS
        )
        self.signature_rejected = self._counter(
            "signature_rejected",
            "Webhooks rejected because of their secret, signature or age.",
            values.SOURCE,
            "source",
        )

    def _jobs(self) -> None:
        self.jobs_published = self._counter(
            "jobs_published",
            "Messages published to a work queue: jobs, maintenance, webhooks and notices to send.",
            values.QUEUES,
            "queue",
        )
        self.jobs = self._counter("jobs", "Deliveries processed, by outcome.", values.JOBS, "queue", "outcome")
        self.job_duration = self._duration_histogram(
            "job_duration", "Time spent on a delivery", values.JOB_SECONDS, values.QUEUES, "queue"
        )
        self.job_age = self._duration_histogram(
            "job_age", "Time from the event until its files are stored or have failed", values.AGE_SECONDS
        )
        self.jobs_in_progress = self._gauge("jobs_in_progress", "Deliveries in process.")
        self.retries = self._counter("retries", "Jobs delayed for another attempt.", values.CODE, "code")
        self.dead_letters = self._counter("dead_letters", "Messages published as dead letters.", values.CODE, "code")
        self.dead_letters_replayed = self._counter("dead_letters_replayed", "Dead letters returned to their queue.")

    def _sweep(self) -> None:
        self.unreconciled_generations = self._gauge(
            "unreconciled_generations", "Missed generations and stalled tasks found by this process's last sweep."
        )
        self.oldest_unreconciled = self._gauge(
            "oldest_unreconciled_seconds",
            "Age of the oldest missed generation or stalled task at the last sweep, in seconds.",
        )
        self.last_sweep = self._gauge(
            "last_sweep_timestamp_seconds", "Time of this process's last sweep, in seconds since 1970; 0: none."
        )

    def _files(self) -> None:
        self.files = self._counter("files", "Files processed in an attempt.", values.FILES, "media", "outcome")
        self.stage_duration = self._duration_histogram(
            "stage_duration", "Time of one pipeline step", values.STAGE_SECONDS, values.STAGES, "stage"
        )
        self.errors = self._counter("errors", "Errors of files and jobs.", values.CODE, "code")
        self.bytes_downloaded = self._counter("bytes_downloaded", "Bytes received from sources.")
        self.bytes_stored = self._counter("bytes_stored", "Bytes of new objects.")
        self.bytes_saved = self._counter("bytes_saved", "Bytes that compression saved.")
        self.deduplicated = self._counter("deduplicated_files", "Files that were already stored.")

    def _storage_and_dependencies(self) -> None:
        self.objects_removed = self._counter("objects_removed", "Objects removed because they were unreferenced.")
        self.source_denied = self._counter(
            "source_denied",
            "Source URLs refused, by rule; not_allowed_reported: reported only.",
            values.DENIALS,
            "reason",
        )
        self.storage_requests = self._counter(
            "storage_requests", "Requests to Storage.", values.STORAGE, "operation", "outcome"
        )
        self.calls_per_request = Histogram(
            "outlast_database_calls_per_request",
            "Calls of outlast_begin, _known, _claim and _finish that went to the database in one request.",
            buckets=values.CALLS,
            registry=self.registry,
        )
        self.circuit_open = self._gauge(
            "circuit_open", "1 while a dependency is unavailable and this process takes no jobs.", "dependency"
        )
        for combination in values.DEPENDENCIES:
            self.circuit_open.labels(*combination)

    def _process(self) -> None:
        self.codec_restarts = self._counter(
            "codec_restarts", "Codec processes that were replaced, by reason.", values.RESTARTS, "reason"
        )
        self.codec_processes = self._gauge("codec_processes", "Codec processes, by state.", "state")
        self.files_waiting = self._gauge(
            "files_waiting",
            "Files that wait: for a `codec` process, a `connection` to their host, `disk` space.",
            "resource",
        )
        self.temp_free = self._gauge(
            "temp_free_bytes", "Free bytes on the file system of TEMP_DIR; NaN: not used by this process."
        )
        self.temp_free.set(math.nan)
