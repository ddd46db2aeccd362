"""Observe the state after a chaos run from outside: SQL, the Storage API, AMQP, the disk and the process table."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aio_pika

from tests.chaos.audit import Observed, ObservedDeadLetter
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fingerprint import Fingerprint, fingerprint, sample_fingerprint
from tests.chaos.fleet import RETRY_DELAYS
from tests.chaos.generation_plan import Generation
from tests.chaos.leftovers import processes_of_session
from tests.chaos.monitor import queue_depths
from worker.broker import topology

OK = 200
CELERY_INBOX = "file_processing"
LISTENING_SECONDS = 30.0


async def collect(environment: ChaosEnvironment, generations: Sequence[Generation]) -> Observed:
    """Stop the workers, let a new one sweep once more, and collect the state."""
    waiting = await queue_depths(environment)
    fleet = environment.fleet
    workers, listening = len(fleet.workers), await _listening(environment)
    worker_logs = (
        "" if listening >= workers else "\n".join(f"{worker.name}:\n{worker.tail(8)}" for worker in fleet.workers)
    )
    await asyncio.gather(*(fleet.terminate(worker) for worker in list(fleet.workers)))
    await fleet.terminate(await fleet.start_worker(wait=True))
    await fleet.terminate(fleet.receiver)
    tables = await _tables(environment)
    on_disk = _on_disk(environment.folder / "storage")
    return Observed(
        generations=generations,
        rows={str(row["id"]): row for row in tables["generations"]},
        tasks=tables["outlast_tasks"],
        files=tables["outlast_files"],
        objects=tables["outlast_objects"],
        dead_letters=await dead_letters(environment),
        served=await _served(
            environment, sorted({f"{file['bucket']}/{file['path']}" for file in tables["outlast_files"]})
        ),
        on_disk=on_disk,
        in_storage={f"{row['bucket_id']}/{row['name']}" for row in tables["storage.objects"]},
        expected={
            file.sample: sample_fingerprint(environment.source.folder, file.sample)
            for generation in generations
            for file in generation.files
            if not file.code
        },
        waiting=waiting,
        undeclared_queues=await _undeclared_queues(environment),
        temp=sorted(path.name for path in (environment.folder / "tmp").iterdir()),
        processes=await _processes(environment),
        workers=workers,
        listening=listening,
        worker_logs=worker_logs,
        exit_errors=fleet.exit_errors,
        tracebacks=_tracebacks(environment.folder / "log"),
    )


async def _tables(environment: ChaosEnvironment) -> dict[str, list[dict[str, Any]]]:
    names = ("generations", "outlast_tasks", "outlast_files", "outlast_objects", "storage.objects")
    async with environment.sql() as sql:
        await sql.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        return {name: [dict(row) for row in await sql.fetch(f"select * from {name}")] for name in names}  # noqa: S608 - fixed names


async def dead_letters(environment: ChaosEnvironment) -> list[ObservedDeadLetter]:
    """Read the dead letters without removing them."""
    found = []
    async with await aio_pika.connect(environment.broker.url) as connection:
        queue = await (await connection.channel()).get_queue(topology.DEAD)
        while message := await queue.get(fail=False):
            body = json.loads(message.body)
            urls = tuple(file["url"] for file in body["files"])
            found.append(ObservedDeadLetter(body["task_id"], str(message.headers.get("x-outlast-error-code")), urls))
    return found


async def _served(environment: ChaosEnvironment, paths: Sequence[str]) -> dict[str, Fingerprint]:
    """Download every object as an app does; return the fingerprints by path."""
    found, fingerprints = {}, {}
    async with environment.app() as session:
        for path in paths:
            async with session.get(f"{environment.gateway.url}/storage/v1/object/{path}") as response:
                if response.status != OK:
                    continue
                content = await response.read()
            if content not in fingerprints:  # many users have the same few pictures
                fingerprints[content] = await asyncio.to_thread(fingerprint, content)
            found[path] = fingerprints[content]
    return found


def _tracebacks(folder: Path) -> list[str]:
    """Return the log lines of receivers and workers that have a traceback."""
    logs = sorted(path for pattern in ("receiver-*.log", "worker-*.log") for path in folder.glob(pattern))
    if not logs:
        raise AssertionError(f"no logs in {folder}")
    return [
        f"{path.name}: {line}"
        for path in logs
        for line in path.read_text(errors="replace").splitlines()
        if "Traceback (most recent call last)" in line
    ]


def _on_disk(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def _listening(environment: ChaosEnvironment) -> int:
    """Count the workers listening on outlast.control; wait for one that has just started."""
    until = time.monotonic() + LISTENING_SECONDS
    while (listening := len(await _undeclared_queues(environment))) < len(
        environment.fleet.workers
    ) and time.monotonic() < until:
        await asyncio.sleep(0.5)
    return listening


async def _undeclared_queues(environment: ChaosEnvironment) -> list[str]:
    """Return the names of the queues that Outlast does not declare."""
    declared = {spec.name for spec in topology.queues(RETRY_DELAYS)} | {CELERY_INBOX}
    return sorted(await environment.queue_names() - declared)


async def _processes(environment: ChaosEnvironment) -> list[str]:
    """Return the remaining child processes of ended workers and receivers, after a short wait for them to end."""
    for _ in range(20):
        found = [line for child in environment.fleet.exited for line in processes_of_session(child.process.pid)]
        if not found:
            break
        await asyncio.sleep(0.25)
    return found
