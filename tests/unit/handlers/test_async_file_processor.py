"""The Python API `AsyncFileProcessor`, without a broker and without Supabase."""

import asyncio
import logging
import sys
from uuid import uuid4

import pytest

from handlers.async_file_processor import (
    AsyncFileProcessor,
    FileProcessingError,
    FileSizeExceededError,
    FileTypeNotSupportedError,
    async_file_processor,
)
from handlers.settings import MediaSettings
from tests.time_limits import LONG_WAIT_SECONDS


@pytest.fixture(scope="module")
def processor(source, tmp_path_factory):
    settings = MediaSettings(
        _env_file=None, source_allowlist=source.url, out_dir=tmp_path_factory.mktemp("out"), codec_processes=1
    )
    created = AsyncFileProcessor(settings)
    yield created
    asyncio.run(created.aclose())


async def test_download_returns_the_bytes_and_reports_progress(processor, source, samples):
    calls = []
    data = await processor.download_fal_file(f"{source.url}/files/photo.png", None, lambda *now: calls.append(now))
    assert data == samples[0].path.read_bytes()
    assert calls[-1] == (len(data), len(data))


async def test_errors_are_the_documented_classes(processor, source):
    with pytest.raises(FileSizeExceededError):
        await processor.download_fal_file(f"{source.url}/files/photo.png", max_size=1000)
    with pytest.raises(FileProcessingError, match="404"):
        await processor.download_fal_file(f"{source.url}/files/non_existent.jpg")
    with pytest.raises(FileTypeNotSupportedError):
        await processor.compress_image(b"no picture at all")


def test_the_type_is_detected_from_the_content_not_from_the_url(processor, samples):
    for sample in samples:
        content_type, extension, is_valid = processor.detect_file_type(sample.path.read_bytes(), "https://x/y.exe")
        assert (content_type, is_valid) == (sample.content_type, True)
        assert "." not in extension
    assert processor.detect_file_type(b"MZ\x90\x00" * 2000)[2] is False
    assert processor.detect_file_type(b"<html><body>hello</body></html>", "https://x/y.png")[::2] == (
        "text/html",
        False,
    )


def test_a_truncated_file_fails_the_integrity_check(processor, samples):
    for sample in samples:
        data = sample.path.read_bytes()
        assert processor.validate_file_integrity(data, sample.content_type)
        assert not processor.validate_file_integrity(data[: len(data) // 2], sample.content_type)


async def test_lower_quality_gives_smaller_files_never_larger_than_the_original(processor, samples):
    data = samples[0].path.read_bytes()
    sizes = [len(await processor.compress_image(data, quality)) for quality in (95, 85, 75, 65)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < len(data)
    small = await processor.compress_image(data, 30)
    assert await processor.compress_image(small, 95) == small


async def test_a_batch_returns_stored_and_failed_files_and_reports_each(processor, source):
    calls = []
    urls = [f"{source.url}/files/{name}" for name in ("photo.jpg", "clip.mp4", "none.png")]
    result = await processor.process_file_batch(urls, uuid4(), uuid4(), 2, lambda *now: calls.append(now))
    assert (result.success, result.total_files) == (False, 3)
    assert [file.original_filename for file in result.processed_files] == ["photo.jpg", "clip.mp4"]
    assert [(failed["url"], failed["code"]) for failed in result.failed_files] == [(urls[2], "source_gone")]
    assert "404" in result.failed_files[0]["error"]
    assert [completed for completed, _, _ in calls] == [1, 2, 3]
    assert {total for _, total, _ in calls} == {3}
    assert {url for *_, url in calls} == set(urls)
    assert result.processing_time > 0


async def test_a_repeated_batch_has_the_same_ids_and_paths(processor, source):
    urls = [f"{source.url}/files/tone.wav"]
    first = await processor.process_file_batch(urls, "u", "g")
    second = await processor.process_file_batch(urls, "u", "g")
    assert first.processed_files[0].id == second.processed_files[0].id
    assert first.processed_files[0].path == second.processed_files[0].path
    assert (first.processed_files[0].deduplicated, second.processed_files[0].deduplicated) == (False, True)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_failing_progress_callback_is_logged_and_does_not_fail_the_batch(processor, source, caplog, is_async):
    def fail(*_now):
        raise ZeroDivisionError

    async def fail_later(*_now):
        raise ZeroDivisionError

    result = await processor.process_file_batch(
        [f"{source.url}/files/tone.wav"], None, "g", 1, fail_later if is_async else fail
    )
    assert result.success
    assert result.processed_files[0].path.startswith("anonymous/")
    assert "progress callback failed" in caplog.text


@pytest.mark.parametrize("count", [0, 11])
async def test_an_empty_or_too_large_batch_is_refused(processor, source, count):
    urls = [f"{source.url}/files/{n}.png" for n in range(count)]
    with pytest.raises(ValueError, match="MAX_BATCH_SIZE"):
        await processor.process_file_batch(urls, "u", "g")


async def test_max_concurrent_below_one_is_refused(processor, source):
    with pytest.raises(ValueError, match="max_concurrent"):
        await processor.process_file_batch([f"{source.url}/files/tone.wav"], "u", "g", max_concurrent=0)


async def test_the_loggers_level_can_be_set(processor, source, caplog):
    url = [f"{source.url}/files/none.png?status=410"]
    logging.getLogger("async_file_processor").setLevel(logging.CRITICAL)
    await processor.process_file_batch(url, "u", "g")
    assert caplog.records == []
    logging.getLogger("async_file_processor").setLevel(logging.INFO)
    await processor.process_file_batch(url, "u", "g")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_the_module_level_object_is_a_processor():
    assert isinstance(async_file_processor, AsyncFileProcessor)


SCRIPT = """
import asyncio
from handlers.async_file_processor import async_file_processor
print("started")
async def run():
    data = await async_file_processor.download_fal_file(URL)
    smaller = await async_file_processor.compress_image(data, quality=75)
    result = await async_file_processor.process_file_batch([URL], "u", "g")
    return len(smaller) < len(data), result.success
print(asyncio.run(run()))
print(asyncio.run(run()))
"""


@pytest.mark.parametrize("how", ["file", "stdin"])
async def test_a_script_without_main_guard_can_use_it_in_several_event_loops(source, tmp_path, how):
    text = SCRIPT.replace("URL", repr(f"{source.url}/files/photo.png"))
    (tmp_path / "script.py").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "script.py" if how == "file" else "-"),
        cwd=tmp_path,
        env={"SOURCE_ALLOWLIST": source.url, "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(text.encode() if how == "stdin" else b""), LONG_WAIT_SECONDS)
    assert (process.returncode, out, err) == (0, b"started\n(True, True)\n(True, True)\n", b"")
