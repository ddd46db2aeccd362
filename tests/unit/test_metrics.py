import inspect
import re

from handlers.codec import CodecStats
from handlers.observer import Observer
from worker.metrics import Metrics

FAMILIES = (
    "webhooks_total",
    "webhook_duration_seconds",
    "publish_duration_seconds",
    "jobs_total",
    "job_duration_seconds",
    "job_age_seconds",
    "jobs_in_progress",
    "files_total",
    "stage_duration_seconds",
    "errors_total",
    "retries_total",
    "dead_letters_total",
    "bytes_downloaded_total",
    "bytes_stored_total",
    "bytes_saved_total",
    "deduplicated_files_total",
    "source_denied_total",
    "signature_rejected_total",
    "storage_requests_total",
    "codec_processes",
    "codec_restarts_total",
    "build_info",
)


def test_every_family_shows_help_and_type_from_the_start():
    text = Metrics("1").render().decode()
    for family in FAMILIES:
        assert re.search(rf"^# HELP outlast_{family} \S", text, re.MULTILINE), family
        assert re.search(rf"^# TYPE outlast_{family} \w+$", text, re.MULTILINE), family


def test_what_the_pipeline_reports_is_counted():
    metrics = Metrics("1")
    metrics.stage("download", 0.2)
    metrics.file("image", "deduplicated")
    metrics.error("corrupted")
    metrics.downloaded(10)
    metrics.stored(7, -3)
    metrics.denied("address")
    metrics.storage("upload", "ok")
    metrics.codec_restarted("crashed")
    metrics.watch_codec(lambda: CodecStats({"busy": 1, "idle": 3}, {}, "kernel"))
    text = metrics.render().decode()
    assert 'outlast_stage_duration_seconds_count{stage="download"} 1.0' in text
    assert 'outlast_files_total{media="image",outcome="deduplicated"} 1.0' in text
    assert "outlast_deduplicated_files_total 1.0" in text
    assert 'outlast_errors_total{code="corrupted"} 1.0' in text
    assert "outlast_bytes_downloaded_total 10.0" in text
    assert "outlast_bytes_stored_total 7.0" in text
    assert "outlast_bytes_saved_total 0.0" in text
    assert 'outlast_source_denied_total{reason="address"} 1.0' in text
    assert 'outlast_storage_requests_total{operation="upload",outcome="ok"} 1.0' in text
    assert 'outlast_codec_restarts_total{reason="crashed"} 1.0' in text
    assert 'outlast_codec_processes{state="busy"} 1.0' in text
    assert 'outlast_codec_processes{state="idle"} 3.0' in text


def test_metrics_watch_everything_there_is():
    methods = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]
    assert len(methods) == 8
    for name in methods:
        assert name in vars(Metrics), name
        assert inspect.signature(getattr(Metrics, name)) == inspect.signature(getattr(Observer, name))
