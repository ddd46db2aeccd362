"""A worker killed during its work loses no file and stores none twice."""

import asyncio
import hashlib
import os
import signal
from uuid import uuid4

import pytest

from deploy.local.project import Project
from deploy.local.stack import Stack
from tests.chaos.leftovers import leftovers
from tests.time_limits import LONG_WAIT_SECONDS


@pytest.mark.usefixtures("broker_of_stacks")
async def test_jobs_of_a_killed_worker_are_finished_by_another(tmp_path):
    async with Stack(tmp_path, workers=1) as stack, Project(stack.endpoints) as project:
        names = [sample.name for sample in stack.samples]
        # Slow enough that the kill happens midway: some files are stored, some in progress, some not started.
        urls = [f"{stack.source.url}/files/{name}?slow=1000000" for name in names]
        rows = [
            {"id": str(uuid4()), "user_id": str(uuid4()), "status": "completed", "output": urls[n : n + 4]}
            for n in range(len(urls) - 3)
        ]
        for row in rows:
            await project.insert("generations", row)
        await wait_until(lambda: project.select("outlast_files", "select=id"), at_least=2)
        before = await project.select("outlast_tasks", "status=eq.completed")
        assert len(before) < len(rows), "everything was done before the kill; make the source slower"
        kill(stack.workers[0].process.pid)
        await stack.start_worker()
        await wait_until(lambda: project.select("outlast_tasks", "status=eq.completed"), at_least=len(rows))
        await audit(stack, project, rows)
    assert leftovers(tmp_path) == []


def kill(pid: int) -> None:
    """Send SIGKILL, as the kernel's out-of-memory killer does."""
    os.kill(pid, signal.SIGKILL)


async def wait_until(ask, at_least: int) -> None:
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while len(await ask()) < at_least:
            await asyncio.sleep(0.5)


async def audit(stack: Stack, project: Project, rows: list[dict]) -> None:
    """Assert that each file is recorded once, each object is served as recorded, and no other object exists."""
    files = await project.select("outlast_files", "")
    assert len(files) == sum(len(row["output"]) for row in rows)
    for row in await project.select("generations", ""):
        assert row["media_status"] == "completed"
        assert len(row["media"]) == 4
    objects = {(file["bucket"], file["path"]): file["sha256"] for file in files}
    for (bucket, path), sha256 in objects.items():
        assert hashlib.sha256(await project.download(bucket, path)).hexdigest() == sha256
    on_disk = {path for path in (stack.data_dir / "storage").rglob("*.*") if path.is_file()}
    assert len(on_disk) == len(objects)
