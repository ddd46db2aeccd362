"""Bombs, decoder crashes and good files in one job: good files are stored, bad ones get their error codes."""

import json
import signal

import pytest
import pyvips

from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.codec_processes import wait_for_decoding
from tests.hostile.bombs import BOMBS

GOOD = ("photo.png", "tone.wav", "photo.jpg")
BAD = (
    "PNG of 100,000 x 100,000",
    "GIF of a million frames",
    "WebP of a million frames",
    "AVIF of 64 x 64 that declares 9,000 x 9,000",
    "TIFF whose second page is too large",
    "PLY of 10^18 rows",
    "MP4 of 900 tracks",
)


@pytest.fixture
def serve_file(source):
    """Puts a file on the source server for one test and returns its URL."""
    paths = []

    def serve(name, content):
        paths.append(source.folder / f"hostile-{name}")
        paths[-1].write_bytes(content)
        return source.file_url(paths[-1].name)

    yield serve
    for path in paths:
        path.unlink()


async def test_job_with_bombs_stores_the_good_files_and_reports_the_bombs(worker_env, source, serve_file):
    urls = [source.file_url(name) for name in GOOD]
    urls += [serve_file(str(at), BOMBS[name][1]()) for at, name in enumerate(BAD)]
    job = worker_env.job(*urls)
    await worker_env.send(job)
    await worker_env.wait_for_outcome("partial")
    stored = await worker_env.sql.fetch("select position from outlast_files order by position")
    assert [row["position"] for row in stored] == list(range(len(GOOD)))
    failed = json.loads((await worker_env.task(job))["failed"])
    expected = {len(GOOD) + at: BOMBS[name][2] for at, name in enumerate(BAD)}
    assert {file["position"]: file["code"] for file in failed} == expected
    assert not any(file["retryable"] for file in failed)
    letters = [await worker_env.take_message("outlast.dead") for _ in set(expected.values())]
    assert {letter.headers["x-outlast-error-code"] for letter in letters} == {"decoder_limit", "corrupted"}

    await worker_env.send(worker_env.job(source.file_url("photo.webp")))
    await worker_env.wait_for_outcome("completed")


async def test_decoder_crash_retries_only_the_file_it_decoded(worker_env, source, serve_file):
    large = pyvips.Image.black(9000, 9000, bands=3).copy(interpretation="srgb")
    urls = serve_file("large.png", large.pngsave_buffer(compression=1)), source.file_url("tone.wav")
    job = worker_env.job(*urls, profile=Profile(format=ImageFormat.WEBP))  # encoding this takes more than a moment
    await worker_env.send(job)
    process = await wait_for_decoding()
    process.send_signal(signal.SIGSEGV)
    await worker_env.wait_for_outcome("retried")
    task = await worker_env.task(job)
    assert (task["status"], task["error_code"]) == ("retrying", "decoder_crashed")
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 1
    hits = source.hits["tone.wav"]
    await worker_env.wait_for_outcome("completed")
    assert 'outlast_codec_restarts_total{reason="crashed"} 1.0' in worker_env.metrics.render().decode()
    assert source.hits["tone.wav"] == hits
    assert (await worker_env.task(job))["attempt"] == 2
