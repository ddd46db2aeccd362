"""`python -m tests.deploy.start_like_image DATA_DIR -- PROGRAM...`: runs receiver and worker as the image does.

PROGRAM is a command line that accepts Outlast's commands (`receiver`, `worker`); this interpreter runs the rest of the
local stack. One generation with two files is processed. Exit code 0: both files are stored with the recorded hashes,
and the receiver and the worker exited with code 0 after SIGTERM.
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


class ImageStartError(RuntimeError):
    """Outlast does not work when started like the image; the message names the difference."""


async def store_a_generation(data_dir: Path, program: Sequence[str]) -> list[Child]:
    """Run the stack with `program`, store a generation, stop the stack; return the receiver and the workers."""
    async with (
        Stack(data_dir, workers=1, port=free_port(), program=program) as stack,
        Project(stack.endpoints) as project,
    ):
        row = {"id": str(uuid4()), "user_id": str(uuid4()), "prompt": "a test", "status": "processing"}
        await project.insert("generations", row)
        completion = {"status": "completed", "output": stack.source.output(list(FILES))}
        await project.update("generations", f"id=eq.{row['id']}", completion)
        stored = await wait_for_files(project, row["id"])
        for file in stored:
            content = await project.download(file["bucket"], file["path"])
            if hashlib.sha256(content).hexdigest() != file["sha256"]:
                raise ImageStartError(f"{file['path']} has another hash than recorded")
    return [child for child in (stack.receiver, *stack.workers) if child is not None]


async def wait_for_files(project: Project, generation: str) -> list[dict]:
    """Wait until the generation's media_status is final; return its files."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            (row,) = await project.select("generations", f"id=eq.{generation}&select=media,media_status")
            if row["media_status"] in {"completed", "partial", "failed"}:
                break
            await asyncio.sleep(0.2)
    if row["media_status"] != "completed" or len(row["media"]) != len(FILES):
        tasks = await project.select("outlast_tasks", f"generation_id=eq.{generation}&select=status,failed,error")
        raise ImageStartError(
            f"the generation ended {row['media_status']} with {len(row['media'] or [])} files: {tasks}"
        )
    return row["media"]


async def run(data_dir: Path, program: Sequence[str]) -> int:
    """Store a generation; return the number of its files. Raises ImageStartError."""
    for child in await store_a_generation(data_dir, program):
        if child.process.returncode != 0:
            raise ImageStartError(f"{child.name} exited with {child.process.returncode} on SIGTERM:\n{child.tail()}")
    return len(FILES)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[sys.argv.index("--") + 1 :]))
    print(f"stored {len(FILES)} of {len(FILES)} files")  # noqa: T201
