"""Run `outlast submit`, `status`, `cancel` and `workers`. Exit codes: 0 done, 1 failed, 3 partly done."""

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.tasks import TaskStatus
from worker.background_tasks import BackgroundTaskManager, UnknownTaskError
from worker.cli.printing import DONE, FAILED, PARTLY, print_items, print_json, print_table, progress_bar
from worker.observability.logs import configure
from worker.settings import Settings
from worker.tasks.service import CancelOutcome

COLUMNS: Final = ("task_id", "status", "binding", "generation_id", "attempt", "files", "error")
WORKER_COLUMNS: Final = ("worker", "queues", "running", "last_seen")


def run_submit(
    urls: Sequence[str],
    user: str,
    generation: str,
    options: Mapping[str, Any],
    *,
    binding: str,
    wait: bool,
    as_json: bool,
) -> int:
    """Submit a task and print its id; with `wait`, print its result instead."""

    async def submit(manager: BackgroundTaskManager) -> int:
        async with manager:
            task_id = await manager.queue_file_processing(urls, user, generation, options, binding)
            if wait:
                if not as_json:
                    sys.stderr.write(f"submitted {task_id}\n")
                return await _follow(manager, task_id, as_json=as_json)
        if as_json:
            print_json({"task_id": task_id})
        else:
            sys.stdout.write(f"{task_id}\n")
        return DONE

    return asyncio.run(submit(_manager()))


def run_status(task: str, *, wait: bool, as_json: bool) -> int:
    """Print the status of a task; with `wait`, after it has ended."""

    async def show_status(manager: BackgroundTaskManager) -> int:
        if wait:
            return await _follow(manager, task, as_json=as_json)
        status = await manager.get_task_status(task)
        if status["status"] == "unknown":
            return _unknown(task)
        _print(status, as_json=as_json)
        return DONE

    return asyncio.run(show_status(_manager()))


def run_cancel(task: str, *, as_json: bool) -> int:
    """Cancel a task and print whether it was cancelled."""
    outcome = asyncio.run(_manager().cancel(task))
    cancelled = outcome is CancelOutcome.CANCELLED
    if as_json:
        print_json({"task_id": task, "cancelled": cancelled, "outcome": outcome})
    elif outcome is CancelOutcome.UNKNOWN:
        sys.stderr.write(
            f"outlast: there is no task with the id {task}; if the job of a webhook with this id is still queued, it "
            "will not run\n"
        )
    else:
        message = "cancelled" if cancelled else "not cancelled: the task has already ended; see `outlast status`"
        sys.stdout.write(f"{message}\n")
    return DONE if cancelled else FAILED


def run_workers(*, as_json: bool) -> int:
    """Print the workers and the tasks that each runs."""
    stats = _manager().get_worker_stats()
    rows = [
        {"worker": name, **stat, "active_tasks": stats["active_tasks"].get(name, [])}
        for name, stat in sorted(stats["workers"].items())
    ]
    if as_json:
        print_items(rows)
        return DONE
    lines = [
        {
            "worker": row["worker"],
            "queues": " ".join(f"{queue}={most}" for queue, most in row.get("concurrency", {}).items()),
            "running": " ".join(task["task_id"] for task in row["active_tasks"]) or "nothing",
            "last_seen": row["last_seen"],
        }
        for row in rows
    ]
    print_table(lines, WORKER_COLUMNS)
    return DONE


def _manager() -> BackgroundTaskManager:
    settings = Settings.load()
    configure(settings)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs errors that are also raised, and printed
    return BackgroundTaskManager(settings)


async def _follow(manager: BackgroundTaskManager, task: str, *, as_json: bool) -> int:
    """Show progress until the task has ended. An interrupt ends this command, not the task."""
    status: dict[str, Any] = {}
    shown, prints_changes = "", not as_json and not sys.stderr.isatty()
    try:
        with progress_bar(hidden=as_json) as bar:
            line = bar.add_task("queued", total=None)
            async for status in manager.watch(task):
                progress = status["progress"] or {}
                done = progress.get("completed", 0) + progress.get("failed", 0)
                if prints_changes and status["status"] != shown:
                    shown = status["status"]
                    sys.stderr.write(f"{shown}\n")
                bar.update(line, description=status["status"], completed=done, total=progress.get("total"))
    except UnknownTaskError:
        return _unknown(task)
    except asyncio.CancelledError:
        sys.stderr.write(
            f"outlast: the task keeps running; see `outlast status {task}`, stop it with `outlast cancel {task}`\n"
        )
        raise
    _print(status, as_json=as_json)
    return {TaskStatus.COMPLETED: DONE, TaskStatus.PARTIAL: PARTLY}.get(status["status"], FAILED)


def _print(status: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(status)
        return
    counts = status["result"] or status["progress"] or {}
    stored = counts.get("successful_files", counts.get("completed", 0))
    total = counts.get("total_files", counts.get("total", "?"))
    print_table([status | {"files": f"{stored} of {total}"}], COLUMNS)


def _unknown(task: str) -> int:
    sys.stderr.write(f"outlast: there is no task with the id {task}\n")
    return FAILED
