"""The pipeline dashboard: how long each step of processing a file takes."""

from typing import Final

from deploy.grafana.dashboard import PIPELINE, build_dashboard
from deploy.grafana.panels import PanelQuery, PanelText, Thresholds, heatmap_panel, time_series
from deploy.grafana.queries import per_minute, quantile, rate, ratio, selector
from handlers.pipeline import STEPS

DESCRIPTIONS: Final = {
    "download": "Downloading from the source to disk. If it is slow, the source or the network is slow.",
    "detect": "Detecting the type from the content.",
    "deduplicate": "Checking whether this user has stored the same file before.",
    "prepare": "Waiting for a free codec process, then decoding, validating and compressing.",
    "upload": "Uploading to Storage.",
}
STAGE_THRESHOLDS: Final = Thresholds(10, 60)

STAGES: Final = tuple(
    heatmap_panel(
        PanelText(f"Step: {step.__name__}", f"{DESCRIPTIONS[step.__name__]} Files per second, by duration.", "s"),
        rate("stage_duration_seconds_bucket", "le", f'stage="{step.__name__}"'),
        STAGE_THRESHOLDS,
        span=8,
    )
    for step in STEPS
)
TIME_PER_STAGE: Final = time_series(
    PanelText("Time per step", "Seconds spent in each step per second, summed over all files.", "s"),
    [PanelQuery(rate("stage_duration_seconds_sum", "stage"), "{{stage}}")],
    stacked=True,
    span=8,
)

DURATIONS: Final = (
    time_series(
        PanelText("Step duration (p95)", "95% of the runs of each step take at most this long.", "s"),
        [PanelQuery(quantile(0.95, "stage_duration_seconds", "stage"), "{{stage}}")],
        STAGE_THRESHOLDS,
        span=8,
    ),
    time_series(
        PanelText("Job duration (p95)", "95% of deliveries take at most this long, by queue.", "s"),
        [PanelQuery(quantile(0.95, "job_duration_seconds", "queue"), "{{queue}}")],
        Thresholds(300, 1500),
        span=8,
    ),
    time_series(
        PanelText("Job outcomes", "Deliveries that ended per second, by outcome.", "ops"),
        [PanelQuery(rate("jobs_total", "outcome"), "{{outcome}}")],
        stacked=True,
        span=8,
    ),
)

CODECS: Final = (
    time_series(
        PanelText(
            "Codec processes",
            "Processes that decode and encode, by state. If all are busy for long, raise CODEC_PROCESSES or add cores.",
            "short",
        ),
        [PanelQuery(f"sum by (state) ({selector('codec_processes')})", "{{state}}")],
        stacked=True,
        span=6,
    ),
    time_series(
        PanelText(
            "Files waiting",
            "Files that wait for a codec process, a connection to their host (MAX_CONNECTIONS_PER_HOST) or disk space "
            "(TEMP_DISK_MB).",
            "short",
        ),
        [PanelQuery(f"sum by (resource) ({selector('files_waiting')})", "{{resource}}")],
        stacked=True,
        span=6,
    ),
    time_series(
        PanelText(
            "Codec restarts", "Codec processes per minute that crashed or hung and were replaced, by reason.", "short"
        ),
        [PanelQuery(per_minute("codec_restarts_total", "reason"), "{{reason}}")],
        Thresholds(1, 10),
        span=6,
    ),
    time_series(
        PanelText("Files by media kind", "Files whose attempt ended per second, by media kind.", "ops"),
        [PanelQuery(rate("files_total", "media"), "{{media}}")],
        stacked=True,
        span=6,
    ),
)

TRANSFER: Final = (
    time_series(
        PanelText("Transfer", "Bytes per second received from sources, and stored as new objects.", "Bps"),
        [PanelQuery(rate("bytes_downloaded_total"), "downloaded"), PanelQuery(rate("bytes_stored_total"), "stored")],
        span=6,
    ),
    time_series(
        PanelText(
            "Failed downloads",
            "Failed downloads per minute, by error code. `source_gone`: the link had expired.",
            "short",
        ),
        [PanelQuery(per_minute("errors_total", "code", 'code=~"source_.*|size_exceeded"'), "{{code}}")],
        Thresholds(1, 10),
        stacked=True,
        span=6,
    ),
    time_series(
        PanelText("Storage requests", "Requests to Storage per second, by operation.", "ops"),
        [PanelQuery(rate("storage_requests_total", "operation"), "{{operation}}")],
        span=6,
    ),
    time_series(
        PanelText(
            "Failed Storage requests",
            "Share of requests that Storage rejected, or could not answer because it was unavailable.",
            "percentunit",
        ),
        [
            PanelQuery(
                ratio(rate("storage_requests_total", matching=f'outcome="{outcome}"'), rate("storage_requests_total")),
                outcome,
            )
            for outcome in ("rejected", "unavailable")
        ],
        Thresholds(0.01, 0.05),
        span=6,
    ),
)

DASHBOARD: Final = build_dashboard(
    PIPELINE,
    "Pipeline",
    "Duration of each step, codec processes, downloads and Storage.",
    {
        "Steps": (*STAGES, TIME_PER_STAGE),
        "Jobs": DURATIONS,
        "Codec processes": CODECS,
        "Downloads and Storage": TRANSFER,
    },
)
