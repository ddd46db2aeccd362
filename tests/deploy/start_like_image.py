"""`python -m tests.deploy.start_like_image DATA_DIR -- PROGRAM...`: receiver and worker as the image starts them.

PROGRAM is a command line that takes Outlast's commands (`receiver`, `worker`); everything else of the local stack is
this interpreter's. One generation with two files goes through. Exit code 0: both were stored and read back as recorded,
and both processes ended well on SIGTERM.
"""

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from deploy.local.processes import Child, free_port
from deploy.local.project import Project
from deploy.local.stack import Stack

FILES = ("photo.png", "tone.wav")
LIMIT_SECONDS = 120.0


class AsImageError(RuntimeError):
    """It does not work as the image starts it; the message says what was seen instead."""


async def store_a_generation(data_dir: Path, program: Sequence[str]) -> list[Child]:
    """Run the stack with `program`, store a generation; return the workers, ended."""
    async with (
        Stack(data_dir, workers=1, port=free_port(), program=program) as stack,
        Project(stack.endpoints) as project,
    ):
        row = {"id": str(uuid4()), "user_id": str(uuid4()), "prompt": "as the image", "status": "processing"}
        await project.insert("generations", row)
        done = {"status": "completed", "output": stack.source.output(list(FILES))}
        await project.update("generations", f"id=eq.{row['id']}", done)
        stored = await finished(project, row["id"])
        for file in stored:
            content = await project.download(file["bucket"], file["path"])
            if hashlib.sha256(content).hexdigest() != file["sha256"]:
                raise AsImageError(f"{file['path']} does not read back as recorded")
    return stack.workers


async def finished(project: Project, generation: str) -> list[dict]:
    """Wait until the generation's media have ended; return its files."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            (row,) = await project.select("generations", f"id=eq.{generation}&select=media,media_status")
            if row["media_status"] in {"completed", "partial", "failed"}:
                break
            await asyncio.sleep(0.2)
    if row["media_status"] != "completed" or len(row["media"]) != len(FILES):
        tasks = await project.select("outlast_tasks", f"generation_id=eq.{generation}&select=status,failed,error")
        raise AsImageError(f"the generation ended {row['media_status']} with {len(row['media'] or [])} files: {tasks}")
    return row["media"]


async def run(data_dir: Path, program: Sequence[str]) -> None:
    """Store a generation; raise AsImageError unless the worker ended well too."""
    for worker in await store_a_generation(data_dir, program):
        if worker.process.returncode != 0:
            raise AsImageError(f"{worker.name} ended with {worker.process.returncode} on SIGTERM:\n{worker.tail()}")


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[sys.argv.index("--") + 1 :]))
    print(f"stored {len(FILES)} of {len(FILES)} files")  # noqa: T201
