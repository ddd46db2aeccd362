"""The auditor's eyes: what can be seen from outside after a run, through SQL, Storage's API, AMQP, disk and ps."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aio_pika

from tests.chaos.fleet import RETRY_DELAYS
from tests.chaos.judge import Letter, Observed
from tests.chaos.looks import Look, look, sample_look
from tests.chaos.plan import Generation
from tests.chaos.remains import of_session
from tests.chaos.watch import depths
from tests.chaos.world import World
from worker.broker import topology

OK = 200
CELERY_INBOX = "file_processing"
HEARING_SECONDS = 30.0


async def collect(world: World, generations: Sequence[Generation]) -> Observed:
    """Stop the workers, have one more sweep after the killed ones, and look at everything."""
    waiting = await depths(world)
    fleet = world.fleet
    workers, hearing = len(fleet.workers), await _hearing(world)
    said = "" if hearing >= workers else "\n".join(f"{worker.name}:\n{worker.tail(8)}" for worker in fleet.workers)
    await asyncio.gather(*(fleet.end(worker) for worker in list(fleet.workers)))
    await fleet.end(await fleet.start_worker(wait=True))
    await fleet.end(fleet.receiver)
    tables = await _tables(world)
    on_disk = _on_disk(world.folder / "storage")
    return Observed(
        generations=generations,
        rows={str(row["id"]): row for row in tables["generations"]},
        tasks=tables["outlast_tasks"],
        files=tables["outlast_files"],
        objects=tables["outlast_objects"],
        letters=await letters(world),
        served=await _served(world, sorted({f"{file['bucket']}/{file['path']}" for file in tables["outlast_files"]})),
        on_disk=on_disk,
        in_storage={f"{row['bucket_id']}/{row['name']}" for row in tables["storage.objects"]},
        expected={
            file.sample: sample_look(world.source.folder, file.sample)
            for generation in generations
            for file in generation.files
            if not file.code
        },
        waiting=waiting,
        strange_queues=await _strange_queues(world),
        temp=sorted(path.name for path in (world.folder / "tmp").iterdir()),
        processes=await _processes(world),
        workers=workers,
        hearing=hearing,
        said=said,
        bad_ends=fleet.bad_ends,
    )


async def _tables(world: World) -> dict[str, list[dict[str, Any]]]:
    names = ("generations", "outlast_tasks", "outlast_files", "outlast_objects", "storage.objects")
    async with world.sql() as sql:
        await sql.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        return {name: [dict(row) for row in await sql.fetch(f"select * from {name}")] for name in names}  # noqa: S608 - fixed


async def letters(world: World) -> list[Letter]:
    """Read the dead letters and leave them where they are."""
    found = []
    async with await aio_pika.connect(world.broker.url) as connection:
        queue = await (await connection.channel()).get_queue(topology.DEAD)
        while message := await queue.get(fail=False):
            body = json.loads(message.body)
            urls = tuple(file["url"] for file in body["files"])
            found.append(Letter(body["task_id"], str(message.headers.get("x-outlast-error-code")), urls))
    return found


async def _served(world: World, places: Sequence[str]) -> dict[str, Look]:
    """Fetch every object as an app does, and look at it."""
    found, looks = {}, {}
    async with world.app() as session:
        for place in places:
            async with session.get(f"{world.gateway.url}/storage/v1/object/{place}") as response:
                if response.status != OK:
                    continue
                content = await response.read()
            if content not in looks:  # many users have the same few pictures
                looks[content] = await asyncio.to_thread(look, content)
            found[place] = looks[content]
    return found


def _on_disk(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def _hearing(world: World) -> int:
    """Count the workers that listen at outlast.control; one that has only just come up is waited for."""
    until = time.monotonic() + HEARING_SECONDS
    while (hearing := len(await _strange_queues(world))) < len(world.fleet.workers) and time.monotonic() < until:
        await asyncio.sleep(0.5)
    return hearing


async def _strange_queues(world: World) -> list[str]:
    """Return the queues that nobody declares on purpose."""
    declared = {spec.name for spec in topology.queues(RETRY_DELAYS)} | {CELERY_INBOX}
    return sorted(await world.queue_names() - declared)


async def _processes(world: World) -> list[str]:
    """Return what still runs of workers and receivers that have ended; they get a moment to go."""
    for _ in range(20):
        found = [line for child in world.fleet.gone for line in of_session(child.process.pid)]
        if not found:
            break
        await asyncio.sleep(0.25)
    return found
