import inspect
import re
import time

from handlers import errors
from handlers.codec.codec import CodecStats
from handlers.observer import Observer
from tests.metric_values import metric_value
from worker.observability.metric_labels import CODES
from worker.observability.metrics import Metrics

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
    "dead_letters_replayed_total",
    "bytes_downloaded_total",
    "bytes_stored_total",
    "bytes_saved_total",
    "deduplicated_files_total",
    "source_denied_total",
    "signature_rejected_total",
    "storage_requests_total",
    "database_calls_per_request",
    "codec_processes",
    "codec_restarts_total",
    "unreconciled_generations",
    "oldest_unreconciled_seconds",
    "build_info",
    "jobs_published_total",
    "objects_removed_total",
    "circuit_open",
    "last_sweep_timestamp_seconds",
    "temp_free_bytes",
)


def test_every_metric_has_help_and_type_before_its_first_event():
    text = Metrics("1").render().decode()
    for family in FAMILIES:
        assert re.search(rf"^# HELP outlast_{family} \S", text, re.MULTILINE), family
        assert re.search(rf"^# TYPE outlast_{family} \w+$", text, re.MULTILINE), family


def test_pipeline_events_are_counted():
    metrics = Metrics("1")
    metrics.stage("download", 0.2)
    metrics.file("image", "deduplicated")
    metrics.error("corrupted")
    metrics.downloaded(10)
    metrics.stored(7, -3)
    metrics.denied("address")
    metrics.storage("upload", "ok")
    metrics.codec_restarted("crashed")
    metrics.watch_codec(lambda: CodecStats({"busy": 1, "idle": 3}, {}, "kernel", "kernel"))
    waiting = {"disk": 0}
    metrics.watch_waiting(lambda: waiting)
    waiting["disk"] = 2
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
    assert 'outlast_files_waiting{resource="disk"} 2.0' in text


def test_buckets_cover_the_expected_range():
    text = Metrics("1").render().decode()

    def buckets(family):
        found = re.findall(rf'outlast_{family}_seconds_bucket{{.*le="([^"]+)"', text)
        return float(found[0]), float(found[-2])

    assert buckets("webhook_duration") == (0.001, 5)
    assert buckets("publish_duration") == (0.001, 5)
    assert buckets("stage_duration") == (0.005, 300)
    assert buckets("job_duration") == (0.005, 1800)
    assert buckets("job_age") == (0.1, 3600)


def test_series_with_known_labels_exist_before_their_first_event():
    text = Metrics("1").render().decode()
    for series in (
        'jobs_total{outcome="partial",queue="file_processing.bulk"}',
        'dead_letters_total{code="worker_killed"}',
        'errors_total{code="storage_unavailable"}',
        'source_denied_total{reason="not_allowed"}',
        'signature_rejected_total{source="fal"}',
        'stage_duration_seconds_count{stage="upload"}',
        'codec_restarts_total{reason="timeout"}',
        'circuit_open{dependency="disk"}',
    ):
        assert f"outlast_{series} 0.0" in text, series
    assert "_created" not in text


def test_help_is_a_sentence_and_names_the_unit():
    text = Metrics("1").render().decode()
    for name, documented in re.findall(r"^# HELP (outlast_\S+) (.+)$", text, re.MULTILINE):
        assert documented.endswith("."), name
        for unit in ("seconds", "bytes"):
            if unit in name:
                assert unit in documented.lower(), name


def test_every_error_code_is_a_known_label():
    documented = re.findall(r"`(\w+)`", errors.__doc__.partition("with other codes")[2].partition("`retryable`")[0])
    assert len(documented) >= 9
    assert {*documented, *re.findall(r"Error +([a-z_]+)", errors.__doc__)} <= set(CODES)


def test_a_sweep_sets_its_results_and_its_time():
    metrics, before = Metrics("1"), time.time()
    metrics.record_sweep(3, 120.5)
    text = metrics.render().decode()
    assert "outlast_unreconciled_generations 3.0" in text
    assert "outlast_oldest_unreconciled_seconds 120.5" in text
    assert metric_value(metrics.last_sweep) >= before


def test_free_disk_space_is_nan_until_a_folder_is_watched(tmp_path):
    metrics = Metrics("1")
    assert "outlast_temp_free_bytes NaN" in metrics.render().decode()
    metrics.watch_disk(tmp_path)
    (free,) = re.findall(r"^outlast_temp_free_bytes (\S+)$", metrics.render().decode(), re.MULTILINE)
    assert float(free) > 0
    metrics.watch_disk(tmp_path / "gone")
    assert "outlast_temp_free_bytes 0.0" in metrics.render().decode()


def test_metrics_implement_every_observer_method():
    methods = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]
    assert len(methods) == 9
    for name in methods:
        assert name in vars(Metrics), name
        assert inspect.signature(getattr(Metrics, name)) == inspect.signature(getattr(Observer, name))
