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
from tests.captured_logs import captured
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


def test_every_line_is_one_json_object_with_its_context(settings, bound):
    with captured(settings) as lines:
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


def test_a_terminal_shows_tracebacks_without_what_variables_held(settings):
    url = "https://fal.media/a/" + "held" * 3
    with captured(settings, log_format="console") as lines:
        try:
            json.loads(url)
        except ValueError:
            log.exception("broken")
    assert "JSONDecodeError" in lines.text
    assert "heldheld" not in lines.text


def test_modules_have_levels_of_their_own(settings, monkeypatch):
    monkeypatch.setenv("LOG_LEVELS", "worker.broker=debug, async_file_processor=ERROR")
    with captured(settings, log_levels=Settings.load().log_levels) as lines:
        structlog.stdlib.get_logger("worker.broker.connection").debug("told")
        structlog.stdlib.get_logger("worker.consume.consumer").debug("not told")
        logging.getLogger("async_file_processor.pipeline").warning("not told")
        logging.getLogger("async_file_processor.pipeline").error("told")
        logging.getLogger("httpx").info("not told")
        logging.getLogger("httpx").warning("told")
    assert [line["event"] for line in lines.read()] == ["told"] * 3


def test_a_line_that_cannot_be_written_breaks_nothing(settings, monkeypatch):
    told = []
    with captured(settings) as lines:
        (handler,) = logging.getLogger().handlers
        monkeypatch.setattr(handler, "handleError", told.append)
        lines.stream.close()
        log.info("to nobody")
    assert [record.name for record in told] == [__name__]


def test_a_line_is_written_at_once_and_what_is_bound_to_a_logger_is_on_it(settings):
    with captured(settings) as lines:
        log.bind(who="we").info("first")
        assert lines.read()[0]["who"] == "we"
        log.log(logging.WARNING, "second")
        log.critical("third")
    assert [line["level"] for line in lines.read()] == ["info", "warning", "critical"]


@pytest.mark.parametrize("value", ["worker.broker=LOUD", "worker.broker"])
def test_a_level_that_is_none_is_refused_by_name(settings, monkeypatch, value):
    monkeypatch.setenv("LOG_LEVELS", value)
    with pytest.raises(SettingsError, match="LOG_LEVELS"):
        type(settings).load()


async def test_what_a_codec_process_logs_comes_home_with_the_callers_context(settings, bound, tmp_path):
    codec = Codec(settings)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with captured(settings) as lines:
        try:
            await codec.call("logging:warning", "of %s", "a child")
            await codec.call("logging:info", "not told")
            with pytest.raises(FileCorruptedError):
                await codec.prepare(broken, tmp_path / "target", "image/png", Profile())
        finally:
            await codec.aclose()
    told = [line for line in lines.read() if "codec_process" in line]
    assert all(bound.items() <= line.items() for line in told)
    assert {line["logger"] for line in told} == {"async_file_processor.codec"}
    assert [line["event"] for line in told if not line["event"].startswith("VIPS")] == ["of a child"]


BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

if sys.argv[1] == "absent":
    sys.meta_path.insert(0, Absent())
import worker.app, worker.cli.main
from worker.observability import tracing

given = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
with tracing.running("test"), tracing.span("one", parent=given):
    with tracing.span("two", attributes={"n": 1}):
        tracing.note({"n": 2})
        print(tracing.here() == given, tracing.mark(), tracing.context() == {"trace_id": "a" * 32})
print(tracing.here(), any(name.startswith("opentelemetry") for name in sys.modules))
"""


@pytest.mark.parametrize(
    ("how", "endpoint", "complains"),
    [("absent", "http://127.0.0.1:9", True), ("absent", "", False), ("there", "", False)],
)
def test_without_the_extra_or_an_exporter_nothing_of_opentelemetry_is_loaded(how, endpoint, complains, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    run = subprocess.run([sys.executable, "-c", BLOCKED, how], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert [line for line in run.stdout.splitlines() if "outlast[otel]" not in line] == ["True () True", "None False"]
    assert ("outlast[otel]" in run.stdout + run.stderr) == complains
