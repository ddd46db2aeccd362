"""Many generations with variants: three workers, one of them killed, deletions, and another list of variants.

`make variants` runs it with 300 generations.
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from uuid import uuid4

import pytest

from deploy.local.samples.pictures import photo
from schemas.variants import parse_variants
from tests.time_limits import LONG_WAIT_SECONDS

GENERATIONS = int(os.environ.get("TEST_GENERATIONS", "16"))
PICTURES = GENERATIONS * 3 // 4
"""Fewer than generations: some share their picture, and the users share some of them."""
USERS = [str(uuid4()) for _ in range(3)]
FIRST = "thumb:24,card:16x16:webp,wide:40:webp:60"
SECOND = "thumb:24,card:20x12:webp,itself:4000"
AT_ONCE = 6


@pytest.fixture
def pictures(source):
    """Names of small pictures at the source, half of them JPEG."""
    names = [f"many-{number}.{'png' if number % 2 else 'jpg'}" for number in range(PICTURES)]
    for number, name in enumerate(names):
        photo(48, number + 1, grain=4).crop(0, 0, 48, 36).write_to_file(str(source.folder / name))
    yield names
    for name in names:
        (source.folder / name).unlink()


class Rows:
    """The rows of the generations, and what the database and the disk have of them."""

    def __init__(self, worker_env, tmp_path):
        self.sql, self.storage = worker_env.sql, tmp_path / "objects" / "generations"
        self.ids = []

    async def add(self, worker_env, url, user):
        job = worker_env.job(url, user_id=user)
        await self.sql.execute(
            "insert into generations (id, user_id, status) values ($1, $2, 'completed')", job.generation_id, user
        )
        self.ids.append(job.generation_id)
        return job

    async def delete(self, ids):
        await self.sql.execute("delete from generations where id = any ($1::uuid[])", ids)
        self.ids = [each for each in self.ids if each not in ids]

    async def completed(self):
        query = "select generation_id from outlast_tasks where status = 'completed'"
        return [row["generation_id"] for row in await self.sql.fetch(query)]

    async def wait_for(self, count):
        await until(self.completed, lambda done: len(done) >= count)

    async def running(self, worker):
        query = "select task_id from outlast_tasks where status = 'running' and worker like '%-' || $1::text"
        return await self.sql.fetch(query, str(worker.pid))

    async def expected(self):
        """Return the number of references of each object, by the media of the rows that there are."""
        media = [json.loads(row["media"]) for row in await self.sql.fetch("select media from generations")]
        assert [len(entries) for entries in media] == [1] * len(self.ids)
        objects = Counter()
        for (entry,) in media:
            objects.update({entry["path"], *(variant["path"] for variant in entry["variants"])})
        return objects, [entry for (entry,) in media]

    async def check(self, names):
        """Assert that exactly the objects of the rows exist, with the right content and numbers of references."""
        objects, entries = await self.expected()
        assert {tuple(each["name"] for each in entry["variants"]) for entry in entries} == {names}
        recorded = await self.sql.fetch("select path, refs, state from outlast_objects")
        assert {row["path"]: (row["refs"], row["state"]) for row in recorded} == {
            path: (count, "live") for path, count in objects.items()
        }
        on_disk = {str(path.relative_to(self.storage)) for path in self.storage.rglob("*.*")}
        assert on_disk == set(objects)
        for each in (each for entry in entries for each in [entry, *entry["variants"]]):
            content = (self.storage / each["path"]).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (each["sha256"], each["file_size"])


async def until(ask, is_enough):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not is_enough(await ask()):
            await asyncio.sleep(0.02)


async def consumers(worker_env):
    queue = await worker_env.channel.declare_queue("outlast.file_processing", passive=True)
    return queue.declaration_result.consumer_count


async def optimize(worker_env, *arguments, **settings):
    command = await worker_env.start_command("optimize", "--yes", "--json", *arguments, **settings)
    out, err = await command.communicate()
    assert command.returncode == 0, err.decode()
    return json.loads(out)


@pytest.mark.settings(variants=parse_variants(FIRST), worker_concurrency=AT_ONCE)
async def test_exactly_the_objects_of_the_rows_exist(worker_env, source, pictures, tmp_path):
    rows, folder = Rows(worker_env, tmp_path), tmp_path / "others"
    folder.mkdir()
    settings = {"VARIANTS": FIRST, "CODEC_PROCESSES": "1", "WORKER_CONCURRENCY": str(AT_ONCE), "METRICS_PORT": "0"}
    others = [await worker_env.start_command("worker", TEMP_DIR=str(folder), **settings) for _ in range(2)]
    await until(lambda: consumers(worker_env), lambda number: number == 1 + len(others))
    for number in range(GENERATIONS):
        url = f"{source.url}/files/{pictures[number % PICTURES]}?slow=20000"
        await worker_env.send(await rows.add(worker_env, url, USERS[number % len(USERS)]))

    await rows.wait_for(GENERATIONS // 4)
    await until(lambda: rows.running(others[0]), bool)
    others[0].kill()
    await rows.delete((await rows.completed())[::3])
    await others[0].wait()
    await rows.sql.execute("update outlast_tasks set lease_until = now() - interval '1 minute'")
    await rows.wait_for(GENERATIONS)
    await rows.delete(rows.ids[::7])

    summary = await optimize(worker_env, "--variants", VARIANTS=SECOND, CODEC_PROCESSES="1")
    assert summary["found"] == summary["varied"] > 0
    await rows.delete(rows.ids[::9])
    await rows.sql.execute("select outlast_release(86400)")
    await rows.sql.execute("update outlast_objects set updated_at = updated_at - interval '2 days'")
    await optimize(worker_env, VARIANTS=SECOND)
    await rows.check(("thumb", "card", "itself"))
    others[1].terminate()
    assert await others[1].wait() == 0
