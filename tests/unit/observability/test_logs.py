import json
import logging
import subprocess
import sys

import pytest
import structlog
from pydantic import SecretStr

from handlers.codec.codec import Codec
from handlers.errors import FileCorruptedError
from handlers.settings import SettingsError
from schemas.jobs import Profile
from tests.captured_logs import capture_log
from worker.settings import Settings

KEY = "eyJhbGciOiJIUzI1NiJ9.c2VydmljZQ.signed"
log = structlog.stdlib.get_logger(__name__)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Settings.load(
        supabase_url="http://127.0.0.1:1",
        supabase_service_role_key=SecretStr(KEY),
        temp_dir=tmp_path,
        codec_processes=1,
    )


@pytest.fixture
def bound():
    with structlog.contextvars.bound_contextvars(task_id="t-1", attempt=2, trace_id="a" * 32):
        yield {"task_id": "t-1", "attempt": 2, "trace_id": "a" * 32}


def test_every_line_is_one_json_object_with_the_bound_context(settings, bound):
    with capture_log(settings) as lines:
        log.info("ours", name='a "quoted"\nname', moment=object)
        logging.getLogger("async_file_processor.pipeline").warning("theirs %s", "too", extra={"stage": "download"})
        try:
            int("line one\nline two")
        except ValueError:
            log.exception("broken")
    ours, theirs, broken = lines.read()
    assert bound.items() <= ours.items()
    assert bound.items() <= theirs.items()
    assert (theirs["event"], theirs["logger"]) == ("theirs too", "async_file_processor.pipeline")
    assert (theirs["level"], theirs["stage"]) == ("warning", "download")
    assert "invalid literal for int() with base 10: 'line one\\nline two'" in broken["exception"]


def test_a_warning_of_a_broker_library_has_its_exception_in_one_line(settings):
    """aiormq warns with a traceback whenever a connection ends."""
    with capture_log(settings) as lines:
        for name in ("aiormq.connection", "elsewhere"):
            logging.getLogger(name).warning("reader exited", exc_info=ConnectionError("closed"))
        logging.getLogger("aiormq.connection").error("a fault", exc_info=ConnectionError("closed"))
    ended, other, fault = lines.read()
    assert (ended["event"], ended["reason"]) == ("reader exited", "ConnectionError: closed")
    assert "exception" not in ended
    assert "exception" in other
    assert "exception" in fault


def test_console_tracebacks_do_not_show_local_variables(settings):
    url = "https://fal.media/a/" + "secret" * 3
    with capture_log(settings, log_format="console") as lines:
        try:
            json.loads(url)
        except ValueError:
            log.exception("broken")
    assert "JSONDecodeError" in lines.text
    assert "secretsecret" not in lines.text


def test_modules_can_have_their_own_log_level(settings, monkeypatch):
    monkeypatch.setenv("LOG_LEVELS", "worker.broker=debug, async_file_processor=ERROR")
    with capture_log(settings, log_levels=Settings.load().log_levels) as lines:
        structlog.stdlib.get_logger("worker.broker.connection").debug("shown")
        structlog.stdlib.get_logger("worker.consume.consumer").debug("hidden")
        logging.getLogger("async_file_processor.pipeline").warning("hidden")
        logging.getLogger("async_file_processor.pipeline").error("shown")
        logging.getLogger("httpx").info("hidden")
        logging.getLogger("httpx").warning("shown")
    assert [line["event"] for line in lines.read()] == ["shown"] * 3


def test_a_failed_write_does_not_raise(settings, monkeypatch):
    errors = []
    with capture_log(settings) as lines:
        (handler,) = logging.getLogger().handlers
        monkeypatch.setattr(handler, "handleError", errors.append)
        lines.stream.close()
        log.info("lost")
    assert [record.name for record in errors] == [__name__]


def test_a_line_is_written_immediately_with_the_loggers_bound_values(settings):
    with capture_log(settings) as lines:
        log.bind(component="test").info("first")
        assert lines.read()[0]["component"] == "test"
        log.log(logging.WARNING, "second")
        log.critical("third")
    assert [line["level"] for line in lines.read()] == ["info", "warning", "critical"]


@pytest.mark.parametrize("value", ["worker.broker=LOUD", "worker.broker"])
def test_an_invalid_log_level_is_refused_by_the_name_of_its_setting(settings, monkeypatch, value):
    monkeypatch.setenv("LOG_LEVELS", value)
    with pytest.raises(SettingsError, match="LOG_LEVELS"):
        type(settings).load()


async def test_log_lines_of_a_codec_process_have_the_callers_context(settings, bound, tmp_path):
    codec = Codec(settings)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with capture_log(settings) as lines:
        try:
            await codec.call("logging:warning", "of %s", "a child")
            await codec.call("logging:info", "hidden")
            with pytest.raises(FileCorruptedError):
                await codec.prepare(broken, tmp_path / "target", "image/png", Profile())
        finally:
            await codec.aclose()
    codec_lines = [line for line in lines.read() if "codec_process" in line]
    assert all(bound.items() <= line.items() for line in codec_lines)
    assert {line["logger"] for line in codec_lines} == {"async_file_processor.codec"}
    assert [line["event"] for line in codec_lines if not line["event"].startswith("VIPS")] == ["of a child"]


BLOCKED = """
import sys

class ImportBlocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

if sys.argv[1] == "absent":
    sys.meta_path.insert(0, ImportBlocker())
import worker.app, worker.cli.main
from worker.observability import tracing

given = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
with tracing.configured("test"), tracing.span("one", parent=given):
    with tracing.span("two", attributes={"n": 1}):
        tracing.set_attributes({"n": 2})
        print(tracing.current_traceparent() == given, tracing.current_links(), tracing.log_context())
print(tracing.current_traceparent(), any(name.startswith("opentelemetry") for name in sys.modules))
"""


@pytest.mark.parametrize(
    ("how", "endpoint", "complains"),
    [("absent", "http://127.0.0.1:9", True), ("absent", "", False), ("there", "", False)],
)
def test_opentelemetry_is_not_imported_without_the_extra_or_an_exporter(how, endpoint, complains, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    run = subprocess.run([sys.executable, "-c", BLOCKED, how], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert [line for line in run.stdout.splitlines() if "outlast[otel]" not in line] == [
        f"True () {{'trace_id': '{'a' * 32}'}}",
        "None False",
    ]
    assert ("outlast[otel]" in run.stdout + run.stderr) == complains
