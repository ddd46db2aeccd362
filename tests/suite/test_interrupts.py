"""A test run that is interrupted or killed leaves no process."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from deploy.local.processes import MARKER
from tests import process_cleanup
from tests.time_limits import LONG_WAIT_SECONDS

ROOT = Path(__file__).parents[2]
PLUGINS = ("-p", "tests.servers", "-p", "tests.interrupts", "-p", "tests.distribution", "-p", "no:cacheprovider")
RUN = (sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *PLUGINS)
WAITS = """
import asyncio

async def test_waits(rabbitmq_url, database_url):
    await asyncio.sleep(3600)
"""
STARTS = WAITS.replace("rabbitmq_url, database_url", "database_url, rabbitmq_url")
"""Starts RabbitMQ last, so that both servers are there while RabbitMQ still starts."""
IGNORES = """
import asyncio
import contextlib

async def test_goes_on_when_cancelled(database_url):
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(3600)
"""
pytestmark = pytest.mark.service


def inside(path, folder):
    return path == folder or path.startswith(folder + "/")


def processes_of(folder):
    """Return the names of the processes that work in the folder or have the marker set to a path in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if inside(process.cwd(), folder) or inside(process.environ().get(MARKER, ""), folder):
                found.append(process.name())
    return found


async def wait_until(condition):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def run_pytest(tmp_path, content, *options, before=(), servers=("beam.smp", "postgres")):
    """Run pytest on one test; once its servers run, yield the process and the folder of everything it started."""
    file, folder = tmp_path / "test_one.py", tmp_path / "base"
    file.write_text(content)
    argv = [*before, *RUN, f"--basetemp={folder}", *options, str(file)]
    # Without the outer run's PYTEST_ variables, with which the inner run would act as an xdist worker.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        await wait_until(lambda: process.returncode is not None or set(servers) <= set(processes_of(str(folder))))
        assert process.returncode is None, (tmp_path / "log").read_text()
        yield process, str(folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_interrupted_parallel_run_ends_with_everything_it_started(tmp_path):
    async with run_pytest(tmp_path, WAITS, "-n", "1") as (process, folder):
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), LONG_WAIT_SECONDS)
        assert process.returncode == pytest.ExitCode.INTERRUPTED, (tmp_path / "log").read_text()
        await wait_until(lambda: not processes_of(folder))


async def test_interrupted_background_run_ends_even_in_a_test_that_suppresses_cancellation(tmp_path):
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")  # as a shell starts `pytest &`
    # PostgreSQL only: it is the server that ends by SIGINT, and starting RabbitMQ takes five seconds of processor time
    async with run_pytest(tmp_path, IGNORES, before=ignoring, servers=["postgres"]) as (process, folder):
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), LONG_WAIT_SECONDS)
        assert process.returncode == pytest.ExitCode.INTERRUPTED, (tmp_path / "log").read_text()
        await wait_until(lambda: not processes_of(folder))


async def test_killed_parallel_run_leaves_no_process(tmp_path):
    async with run_pytest(tmp_path, STARTS, "-n", "1") as (process, folder):
        process.kill()
        await wait_until(lambda: not processes_of(folder))
        await wait_until(lambda: not process_cleanup.memory_folder(f"{folder}/popen-gw0").exists())
