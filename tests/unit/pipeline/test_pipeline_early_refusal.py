"""The pipeline refuses unsupported types after the first bytes, and treats them as UNSUPPORTED_FILES says."""

import asyncio

import pytest

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.observer import Observer
from handlers.pipeline import process
from handlers.pipeline.state import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.jobs import JobFile, Profile
from tests.hostile.raw_server import RawServer, head, send
from tests.time_limits import LONG_WAIT_SECONDS

REFUSED = {
    "an HTML page": b"<!DOCTYPE html><html><body>" + b"expired " * 1000,
    "a PDF": b"%PDF-1.7\n1 0 obj\n" + b"<<>>\n" * 1000,
    "a script": b"#!/bin/sh\n" + b"echo a\n" * 1000,
    "a program": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + bytes(8000),
    "a program for windows": b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0\x64\x86" + bytes(8000),
    "a program in a ZIP file": b"PK\3\4" + bytes(22) + b"\x14\0\0\0META-INF/MANIFEST.MF" + bytes(8000),
}
"""What is refused in every mode."""
OTHER = {
    "pickled weights": b"PK\3\4" + bytes(22) + b"\x10\0\0\0archive/data.pkl" + bytes(8000),
    "text in another encoding": "gr\u00fcn\n".encode("latin-1") * 2000,
    "noise": bytes(range(1, 256)) * 40,
}
"""What UNSUPPORTED_FILES decides about."""
CODES = {"skip": "type_skipped", "fail": "type_not_supported"}
COMMENTS = b"# made by hand\n" * 1000
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


async def run_pipeline(source, tmp_path, codec=None, mode="skip"):
    settings = MediaSettings(
        _env_file=None, source_allowlist=source.url, temp_dir=tmp_path, codec_processes=1, unsupported_files=mode
    )
    async with Downloader(settings) as downloader, asyncio.timeout(LONG_WAIT_SECONDS):
        deps = PipelineDeps(settings, downloader, codec or Codec(settings), FolderStorage(tmp_path, "b"), Observer())
        file = JobFile(position=0, url=f"{source.url}/f.obj", source_key="0" * 32)
        return await process(Batch((file,), "user", "generation", Profile(), 1), deps)


def beginning(content):
    """Return a response whose end never comes."""

    async def respond(writer, _request):
        await send(writer, head(content_length=50_000_000), content[:5000])
        await asyncio.Event().wait()

    return respond


@pytest.mark.parametrize("mode", ["skip", "fail", "keep"])
@pytest.mark.parametrize("kind", REFUSED)
async def test_pages_documents_and_programs_are_refused_in_every_mode(tmp_path, kind, mode):
    async with RawServer(beginning(REFUSED[kind])) as source:
        (failed,) = (await run_pipeline(source, tmp_path, mode=mode)).failed
    assert (failed.code, failed.retryable, failed.stage) == ("type_not_supported", False, "download")
    assert not failed.is_skipped


@pytest.mark.parametrize("mode", CODES)
@pytest.mark.parametrize("kind", OTHER)
async def test_another_type_is_skipped_or_fails_by_its_first_bytes(tmp_path, kind, mode):
    async with RawServer(beginning(OTHER[kind])) as source:
        (failed,) = (await run_pipeline(source, tmp_path, mode=mode)).failed
    assert (failed.code, failed.retryable, failed.stage) == (CODES[mode], False, "download")
    assert "which is not stored" in failed.error
    assert failed.is_skipped == (mode == "skip")


@pytest.mark.parametrize("kind", OTHER)
async def test_another_type_is_kept_unchanged(tmp_path, kind):
    async def respond(writer, _request):
        await send(writer, head(content_length=len(OTHER[kind])), OTHER[kind])

    async with RawServer(respond) as source:
        (stored,) = (await run_pipeline(source, tmp_path, mode="keep")).stored
    assert (stored.content_type, stored.path.rpartition(".")[2]) == ("application/octet-stream", "bin")
    assert (tmp_path / stored.path).read_bytes() == OTHER[kind]
    assert stored.file_size == stored.original_size == len(OTHER[kind])


async def test_a_model_that_begins_with_long_comments_is_stored(tmp_path):
    content = COMMENTS + TRIANGLE

    async def respond(writer, _request):
        await send(writer, head(content_length=len(content)), content)

    codec = Codec(MediaSettings(_env_file=None, codec_processes=1))
    async with RawServer(respond) as source:
        (stored,) = (await run_pipeline(source, tmp_path, codec)).stored
    await codec.aclose()
    assert (stored.content_type, stored.file_size) == ("model/obj", len(content))


async def test_comments_alone_are_text(tmp_path):
    async def respond(writer, _request):
        await send(writer, head(content_length=len(COMMENTS)), COMMENTS)

    codec = Codec(MediaSettings(_env_file=None, codec_processes=1))
    async with RawServer(respond) as source:
        (stored,) = (await run_pipeline(source, tmp_path, codec)).stored
    await codec.aclose()
    assert stored.content_type == "text/plain"
