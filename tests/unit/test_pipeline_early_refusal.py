"""The pipeline refuses unsupported types after the first bytes, except text that may still become a 3D model."""

import asyncio

import pytest

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.observer import Observer
from handlers.pipeline import process
from handlers.pipeline.steps import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.jobs import JobFile, Profile
from tests.hostile.raw_server import RawServer, head, send
from tests.time_limits import LONG_WAIT_SECONDS

NOT_STORED = {
    "an HTML page": b"<!DOCTYPE html><html><body>" + b"expired " * 1000,
    "a program": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + bytes(8000),
    "weights": b"\x40\0\0\0\0\0\0\0" + b'{"__metadata__":{"format":"pt"}}' + bytes(8000),
    "plain text": b"v is a letter\nand f another\n" * 300,
    "noise": bytes(range(1, 256)) * 40,
}
COMMENTS = b"# made by hand\n" * 1000
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


async def run_pipeline(source, tmp_path, codec=None):
    settings = MediaSettings(_env_file=None, source_allowlist=source.url, temp_dir=tmp_path, codec_processes=1)
    async with Downloader(settings) as downloader, asyncio.timeout(LONG_WAIT_SECONDS):
        deps = PipelineDeps(settings, downloader, codec or Codec(settings), FolderStorage(tmp_path, "b"), Observer())
        file = JobFile(position=0, url=f"{source.url}/f.obj", source_key="0" * 32)
        return await process(Batch((file,), "user", "generation", Profile(), 1), deps)


@pytest.mark.parametrize("kind", NOT_STORED)
async def test_an_unsupported_type_is_refused_by_its_first_bytes(tmp_path, kind):
    async def respond(writer, _request):
        await send(writer, head(content_length=50_000_000), NOT_STORED[kind][:5000])
        await asyncio.Event().wait()

    async with RawServer(respond) as source:
        (failed,) = (await run_pipeline(source, tmp_path)).failed
    assert (failed.code, failed.retryable, failed.stage) == ("type_not_supported", False, "download")


async def test_a_model_that_begins_with_long_comments_is_stored(tmp_path):
    content = COMMENTS + TRIANGLE

    async def respond(writer, _request):
        await send(writer, head(content_length=len(content)), content)

    codec = Codec(MediaSettings(_env_file=None, codec_processes=1))
    async with RawServer(respond) as source:
        (stored,) = (await run_pipeline(source, tmp_path, codec)).stored
    await codec.aclose()
    assert (stored.content_type, stored.file_size) == ("model/obj", len(content))


async def test_comments_alone_are_not_a_model(tmp_path):
    async def respond(writer, _request):
        await send(writer, head(content_length=len(COMMENTS)), COMMENTS)

    async with RawServer(respond) as source:
        (failed,) = (await run_pipeline(source, tmp_path)).failed
    assert (failed.code, failed.stage) == ("type_not_supported", "detect")
