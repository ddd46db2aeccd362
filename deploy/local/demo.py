"""`outlast demo`: processes sample generations in the local stack and compares each stored file with its record."""

import asyncio
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.local.processes import StackError
from deploy.local.project import Project
from deploy.local.signals import run_until_signal
from deploy.local.stack import Stack
from schemas.tasks import TaskStatus

DEMO_USER: Final = UUID("0d3a0d3a-0000-4000-8000-000000000001")
"""The same user in every run, so that a second run finds all files stored already."""
TIMEOUT_SECONDS: Final = 110.0
POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A row of outlast_files and the results of its checks.

    `seconds` is the time until its generation ended, `intact` whether Storage returns the recorded bytes, and `on_row`
    whether the media list on the generation's row names the file.
    """

    row: dict[str, Any]
    seconds: float
    intact: bool
    on_row: bool

    @property
    def verified(self) -> bool:
        """Whether both checks succeeded."""
        return self.intact and self.on_row


async def run_demo(data_dir: Path, *, as_json: bool) -> int:
    """Run the demo. Returns exit code 0 only when every sample is stored and verified."""
    console = Console(stderr=True)
    try:
        return await run_until_signal(_demo(data_dir, console, as_json=as_json), exit_code=1)
    except StackError as error:
        console.print(f"outlast: {error}", style="red", markup=False)
        return 1


async def _demo(data_dir: Path, console: Console, *, as_json: bool) -> int:
    started = time.monotonic()
    async with Stack(data_dir, workers=1, report=lambda step: console.print(step, style="dim", markup=False)) as stack:
        stored, expected, missing = await _process(stack, console)
        data_dir = stack.data_dir
    verified = sum(file.verified for file in stored)
    if as_json:
        items = [file.row | {"well": file.verified, "seconds": file.seconds} for file in stored]
        sys.stdout.write(json.dumps({"items": items, "total": len(items), "missing": missing}) + "\n")
    else:
        _show(stored)
    for name, why in missing.items():
        console.print(f"{name} was not stored: {why}", style="red", markup=False)
    seconds = time.monotonic() - started
    console.print(
        f"{verified} of {expected} files were stored and verified in {seconds:.0f} s, start and stop included. They "
        f"are kept in {data_dir / 'storage'}; `outlast up` serves them.",
        markup=False,
    )
    return 0 if verified == expected else 1


def sample_generations(stack: Stack) -> list[dict[str, Any]]:
    """Return the rows to insert, with outputs like those of FAL's models: two with all pictures, one per other file."""
    pictures = [sample.name for sample in stack.samples if sample.content_type.startswith("image/")]
    others = [[sample.name] for sample in stack.samples if not sample.content_type.startswith("image/")]
    return [
        {
            "id": str(uuid4()),
            "user_id": str(DEMO_USER),
            "prompt": f"demo: {', '.join(names)}",
            "status": "processing",
            "output": stack.source.output(names),
            "request_id": str(uuid4()),
        }
        for names in (pictures[:5], pictures[5:], *others)
        if names
    ]


async def _process(stack: Stack, console: Console) -> tuple[list[StoredFile], int, dict[str, str]]:
    """Insert generations, complete them as an application would, and wait until they have ended.

    Returns the stored files, the number of files that should be stored, and why each other file was not.
    """
    made = sample_generations(stack)
    async with Project(stack.endpoints) as project:
        for row in made:
            await project.insert("generations", {**row, "output": None})
        console.print(f"completing {len(made)} generations with {len(stack.samples)} files", style="dim")
        started = time.monotonic()
        for row in made:
            done = {"status": "completed", "output": row["output"]}
            await project.update("generations", f"id=eq.{row['id']}", done)
            if not stack.sends_webhooks:
                await project.send_webhook({**row, **done})
        ids = [row["id"] for row in made]
        ended = await _wait(stack, project, ids, console, started)
        stored = await _verify(project, ids, ended)
        tasks = await project.select("outlast_tasks", f"generation_id=in.({','.join(ids)})")
        return stored, len(stack.samples), missing_files(made, tasks, stored)


async def _wait(stack: Stack, project: Project, ids: list[str], console: Console, started: float) -> dict[str, float]:
    """Show progress until every generation has ended, or for TIMEOUT_SECONDS; return the seconds that each took."""
    ended: dict[str, float] = {}
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with progress:
        bar = progress.add_task("files stored", total=len(stack.samples))
        while len(ended) < len(ids) and time.monotonic() - started < TIMEOUT_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
            await stack.supervise()
            tasks = await project.select("outlast_tasks", f"generation_id=in.({','.join(ids)})")
            for task in tasks:
                if TaskStatus(task["status"]).ready and task["generation_id"] not in ended:
                    ended[task["generation_id"]] = time.monotonic() - started
            stored = await project.select("outlast_files", f"generation_id=in.({','.join(ids)})&select=id")
            progress.update(bar, completed=len(stored))
    return ended


async def _verify(project: Project, ids: list[str], ended: dict[str, float]) -> list[StoredFile]:
    """Download every stored file from the Storage API, and look for it in the media list on its generation's row."""
    rows = await project.select("outlast_files", f"generation_id=in.({','.join(ids)})&order=generation_id,position")
    media = {
        row["id"]: {entry["sha256"] for entry in row["media"] or [] if entry["status"] == "stored"}
        for row in await project.select("generations", f"id=in.({','.join(ids)})&select=id,media")
    }
    files = []
    for row in rows:
        content = await project.download(row["bucket"], row["path"])
        files.append(
            StoredFile(
                row=row,
                seconds=ended.get(row["generation_id"], TIMEOUT_SECONDS),
                intact=hashlib.sha256(content).hexdigest() == row["sha256"],
                on_row=row["sha256"] in media.get(row["generation_id"], set()),
            )
        )
    return files


def missing_files(made: list[dict[str, Any]], tasks: list[dict[str, Any]], stored: list[StoredFile]) -> dict[str, str]:
    """Return, by file name, why it is not stored or verified: its error, its task's error, or the failed check."""
    found = {(file.row["generation_id"], file.row["original_filename"]): file for file in stored}
    missing = {}
    for row in made:
        own = [task for task in tasks if task["generation_id"] == row["id"]]
        for name, url in _files(row["output"]):
            file = found.get((row["id"], name))
            if file is None:
                missing[name] = _reason(own, url)
            elif not file.verified:
                missing[name] = (
                    "its generation's row does not name it"
                    if file.intact
                    else "Storage returns other bytes than recorded"
                )
    return missing


def _files(output: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and URL of each file in an output of the sample source."""
    files = [file for value in output.values() for file in (value if isinstance(value, list) else [value])]
    return [(file["file_name"], file["url"]) for file in files]


def _reason(tasks: list[dict[str, Any]], url: str) -> str:
    file_errors = [
        f"{file['code']}: {file['error']}" for task in tasks for file in task["failed"] if file["url"] == url
    ]
    task_errors = [
        f"its task is {task['status']}" + (f", {task['error_code']}: {task['error']}" if task["error"] else "")
        for task in tasks
    ]
    return next(iter(file_errors + task_errors), "it has no task, because the webhook did not arrive")


def _show(stored: list[StoredFile]) -> None:
    table = Table("file", "type", "before", "after", "saved", "dimensions")
    table.add_column("stored as", overflow="fold")
    table.add_column("time")
    table.add_column("verified")
    for file in stored:
        row = file.row
        size = f"{row['width']}x{row['height']}" if row["width"] else ""
        length = f"{row['duration']:.1f} s" if row["duration"] else ""
        saved = 1 - row["file_size"] / row["original_size"]
        table.add_row(
            row["original_filename"],
            row["content_type"],
            f"{row['original_size']:,}",
            f"{row['file_size']:,}",
            "known" if row["deduplicated"] else f"{saved:.0%}",
            " ".join(filter(None, (size, length))),
            f"{row['bucket']}/{row['path']}",
            f"{file.seconds:.1f} s",
            "yes" if file.verified else "NO",
        )
    # A pipe has no width, so choose one that is wide enough for every path.
    Console(width=None if sys.stdout.isatty() else 220).print(table)
