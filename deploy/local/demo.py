"""`outlast demo`: real generations through the whole chain, each file read back and compared with its record."""

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
from deploy.local.signals import until_told
from deploy.local.stack import Stack
from schemas.tasks import TaskStatus

DEMO_USER: Final = UUID("0d3a0d3a-0000-4000-8000-000000000001")
"""The same user on every run, so that a second run stores nothing twice."""
LIMIT_SECONDS: Final = 110.0
POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Landed:
    """One stored file as the database tells of it, and whether Storage serves just that."""

    row: dict[str, Any]
    seconds: float
    intact: bool
    on_row: bool

    @property
    def well(self) -> bool:
        """Whether the bytes match the record and the generation's row names the file."""
        return self.intact and self.on_row


async def run_demo(data_dir: Path, *, as_json: bool) -> int:
    """Run the demo; 0 only when every sample is stored, reads back as recorded, and stands on its generation's row."""
    console = Console(stderr=True)
    try:
        return await until_told(_demo(data_dir, console, as_json=as_json), told=1)
    except StackError as error:
        console.print(f"outlast: {error}", style="red", markup=False)
        return 1


async def _demo(data_dir: Path, console: Console, *, as_json: bool) -> int:
    started = time.monotonic()
    async with Stack(data_dir, workers=1, say=lambda step: console.print(step, style="dim", markup=False)) as stack:
        landed, wanted, missing = await _send(stack, console)
        where = stack.data_dir
    well = sum(file.well for file in landed)
    if as_json:
        items = [file.row | {"well": file.well, "seconds": file.seconds} for file in landed]
        sys.stdout.write(json.dumps({"items": items, "total": len(items), "missing": missing}) + "\n")
    else:
        _show(landed)
    for name, why in missing.items():
        console.print(f"{name} did not land: {why}", style="red", markup=False)
    console.print(
        f"{well} of {wanted} files landed and read back as recorded, in {time.monotonic() - started:.0f} s with start "
        f"and stop. They stay in {where / 'storage'}; `outlast up` serves them.",
        markup=False,
    )
    return 0 if well == wanted else 1


def generations(stack: Stack) -> list[dict[str, Any]]:
    """Return the generations to make, in the shapes FAL's models answer: one with all pictures, one for each other."""
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


async def _send(stack: Stack, console: Console) -> tuple[list[Landed], int, dict[str, str]]:
    """Insert generations, complete them as an app would, watch them land; say of each file that did not why."""
    made = generations(stack)
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
        ended = await _watch(stack, project, ids, console, started)
        landed = await _inspect(project, ids, ended)
        tasks = await project.select("outlast_tasks", f"generation_id=in.({','.join(ids)})")
        return landed, len(stack.samples), missing_files(made, tasks, landed)


async def _watch(stack: Stack, project: Project, ids: list[str], console: Console, started: float) -> dict[str, float]:
    """Show progress until every generation ended or time is up; return the seconds each took."""
    ended: dict[str, float] = {}
    shown = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with shown:
        bar = shown.add_task("files landed", total=len(stack.samples))
        while len(ended) < len(ids) and time.monotonic() - started < LIMIT_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
            await stack.watch()
            tasks = await project.select("outlast_tasks", f"generation_id=in.({','.join(ids)})")
            for task in tasks:
                if TaskStatus(task["status"]).ready and task["generation_id"] not in ended:
                    ended[task["generation_id"]] = time.monotonic() - started
            stored = await project.select("outlast_files", f"generation_id=in.({','.join(ids)})&select=id")
            shown.update(bar, completed=len(stored))
    return ended


async def _inspect(project: Project, ids: list[str], ended: dict[str, float]) -> list[Landed]:
    """Read every stored file back through the Storage API and look for it on its generation's row."""
    rows = await project.select("outlast_files", f"generation_id=in.({','.join(ids)})&order=generation_id,position")
    media = {
        row["id"]: {entry["sha256"] for entry in row["media"] or []}
        for row in await project.select("generations", f"id=in.({','.join(ids)})&select=id,media")
    }
    landed = []
    for row in rows:
        content = await project.download(row["bucket"], row["path"])
        landed.append(
            Landed(
                row=row,
                seconds=ended.get(row["generation_id"], LIMIT_SECONDS),
                intact=hashlib.sha256(content).hexdigest() == row["sha256"],
                on_row=row["sha256"] in media.get(row["generation_id"], set()),
            )
        )
    return landed


def missing_files(made: list[dict[str, Any]], tasks: list[dict[str, Any]], landed: list[Landed]) -> dict[str, str]:
    """Return why each file of the generations did not land well: its own error, its task's, or how far it came."""
    stored = {(file.row["generation_id"], file.row["original_filename"]): file for file in landed}
    missing = {}
    for row in made:
        own = [task for task in tasks if task["generation_id"] == row["id"]]
        for name, url in _files(row["output"]):
            file = stored.get((row["id"], name))
            if file is None:
                missing[name] = _why(own, url)
            elif not file.well:
                missing[name] = "not named on its generation's row" if file.intact else "does not read back as recorded"
    return missing


def _files(output: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and URL of each file in an output that the sample source made."""
    files = [file for value in output.values() for file in (value if isinstance(value, list) else [value])]
    return [(file["file_name"], file["url"]) for file in files]


def _why(tasks: list[dict[str, Any]], url: str) -> str:
    failed = [f"{file['code']}: {file['error']}" for task in tasks for file in task["failed"] if file["url"] == url]
    whole = [
        f"its task is {task['status']}" + (f", {task['error_code']}: {task['error']}" if task["error"] else "")
        for task in tasks
    ]
    return next(iter(failed + whole), "no task was made: the webhook did not arrive")


def _show(landed: list[Landed]) -> None:
    table = Table("file", "type", "before", "after", "saved", "dimensions")
    table.add_column("stored as", overflow="fold")
    table.add_column("time")
    table.add_column("reads back")
    for file in landed:
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
            "yes" if file.well else "NO",
        )
    # A pipe has no width of its own: wide enough that no path is broken.
    Console(width=None if sys.stdout.isatty() else 220).print(table)
