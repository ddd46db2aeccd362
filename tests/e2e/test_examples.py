"""Every example runs against the local stack as its docstring says."""

import asyncio
import os
import re
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.local.samples import make_broken
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(stack, tmp_path):
    """A function that runs an example as a program and returns its output."""
    at = stack.endpoints
    settings = {
        "SUPABASE_URL": at.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": at.service_role_key,
        "RABBITMQ_URL": at.rabbitmq_url,
        "SOURCE_ALLOWLIST": at.source_url,
        "LOG_LEVEL": "ERROR",
    }

    async def run_example(name, *arguments, code=0):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *arguments),
            cwd=tmp_path,
            env=os.environ | settings,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
        assert process.returncode == code, output.decode()
        return output.decode()

    return run_example


@pytest.fixture
def url(stack):
    make_broken(stack.source.folder)
    return lambda name: f"{stack.endpoints.source_url}/files/{name}"


def test_every_example_is_run_here():
    here = Path(__file__).read_text()
    assert [path.stem for path in EXAMPLES.glob("*.py") if f'run("{path.stem}"' not in here] == []


async def test_single_file_example_stores_and_reports_damage(run, url):
    assert re.search(r"stored as [0-9a-f-]{36}", await run("single_file", url("photo.png")))
    assert "damaged" in await run("single_file", url("cut.jpg"), code=1)


async def test_batch_example_reports_progress_and_failures(run, url):
    output = await run("batch_with_progress", url("photo.png"), url("tone.mp3"), url("nothing.png"))
    assert "[100.0%]" in output
    assert "source_gone" in output
    assert "2 of 3 in" in output


async def test_background_task_example_completes(run, url):
    output = await run("background_task", url("photo.png"), url("clip.mp4"))
    assert output.startswith("queued: "), "our own log lines are not for a program that did not ask for them"
    assert "completed: " in output
    assert "2 of 2 in" in output
    assert len(re.findall(r"^[0-9a-f-]{36}$", output, re.MULTILINE)) == 2


async def test_polling_example_ends_completed(run, url):
    assert (await run("polling", url("tone.wav"))).splitlines()[-1] == "completed"


async def test_compression_example_shows_decreasing_sizes(run, url):
    sizes = [
        int(size.replace(",", ""))
        for size in re.findall(r": ([\d,]+) bytes", await run("compression", url("photo.png")))
    ]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


async def test_error_handling_example_names_each_error(run, url):
    output = await run("error_handling", url("photo.png"), url("nothing.png"), url("page.png"), url("cut.jpg"))
    assert "bytes of image/png" in output
    assert "source_gone: " in output
    assert "not supported: text/html" in output
    assert "corrupted: it does not decode whole; final" in output


async def test_storage_and_generation_example_writes_the_media_list(run, url, project):
    row = {"id": str(uuid4()), "user_id": str(uuid4()), "status": "processing"}
    await project.insert("generations", row)
    output = await run("storage_and_generation", row["id"], row["user_id"], url("photo.png"), url("tone.mp3"))
    assert f"2 files on generation {row['id']}" in output
    (found,) = await project.select("generations", f"id=eq.{row['id']}&select=media,media_status")
    assert [entry["content_type"] for entry in found["media"]] == ["image/jpeg", "audio/mpeg"]
    assert found["media_status"] == "completed"


async def test_worker_statistics_example_lists_the_worker(run):
    async with asyncio.timeout(WAIT_SECONDS):
        while "active workers: 1" not in (output := await run("worker_statistics")):
            await asyncio.sleep(1)
    assert "file_processing" in output
