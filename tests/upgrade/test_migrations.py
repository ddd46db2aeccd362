"""The migrations on a database created and used by the first release, whose SQL is in migrations/."""

import json
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from deploy.local.postgres import BOOTSTRAP, apply_migrations

FIRST = sorted((Path(__file__).parent / "migrations").glob("*.sql"))
JOB = json.loads((Path(__file__).parent / "messages" / "v1-first.json").read_text())
TABLES = {
    "generations": "id",
    "outlast_tasks": "task_id",
    "outlast_files": "id",
    "outlast_objects": "path",
    "outlast_settings": "key",
}


def stored(job):
    return {
        "id": str(uuid4()),
        "source_key": job["files"][0]["source_key"],
        "position": 0,
        "sha256": "0" * 64,
        "original_filename": "tone.wav",
        "original_size": 10,
        "file_size": 10,
        "content_type": "audio/wav",
        "bucket": "generations",
        "path": f"{job['user_id']}/00/{'0' * 64}.wav",
        "source_sha256": "1" * 64,
        "profile": "auto-q85-strip",
        "deduplicated": False,
        "source_url": "https://fal.media/tone.wav",
    }


async def begin(sql, job, lease):
    reply = await sql.fetchval(
        "select outlast_begin(p_job => $1, p_lease => $2, p_worker => 'w')", json.dumps(job), lease
    )
    return json.loads(reply)


async def finish(sql, job, lease, files):
    reply = await sql.fetchval(
        "select outlast_finish(p_task_id => $1, p_lease => $2, p_status => $3, p_files => $4, p_failed => '[]')",
        *(job["task_id"], lease, "completed", json.dumps(files)),
    )
    return json.loads(reply)


async def read_tables(sql):
    rows = {table: await sql.fetch(f"select * from public.{table} order by {key}") for table, key in TABLES.items()}  # noqa: S608
    return {table: [dict(row) for row in found] for table, found in rows.items()}


def lost_values(before, after):
    """Return the values of `before` that `after` does not have, as (table, row number, column)."""
    return [
        (table, number, column)
        for table, rows in before.items()
        for number, row in enumerate(rows)
        for column, value in row.items()
        if after[table][number].get(column) != value
    ]


@pytest.fixture
async def first_release(postgres):
    name = f"first_release{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"create database {name}")
    await admin.close()
    sql = await asyncpg.connect(postgres.database_url(name))
    for file in (BOOTSTRAP, *FIRST):
        await sql.execute(file.read_text())
    await sql.execute("select outlast_install()")
    yield sql, postgres.database_url(name)
    await sql.close()


async def test_migrated_data_is_kept_and_running_tasks_can_finish(first_release):
    sql, url = first_release
    finished, unfinished = JOB, JOB | {"task_id": str(uuid4()), "generation_id": str(uuid4())}
    for job in (finished, unfinished):
        await sql.execute(
            "insert into generations (id, user_id, status) values ($1, $2, 'completed')",
            job["generation_id"],
            job["user_id"],
        )
    lease = uuid4()
    assert (await begin(sql, finished, lease))["state"] == "run"
    assert (await finish(sql, finished, lease, [stored(finished)]))["state"] == "recorded"
    unfinished_lease = uuid4()
    assert (await begin(sql, unfinished, unfinished_lease))["state"] == "run"
    before = await read_tables(sql)
    assert {table: len(rows) for table, rows in before.items() if table != "outlast_settings"} == {
        "generations": 2,
        "outlast_tasks": 2,
        "outlast_files": 1,
        "outlast_objects": 1,
    }

    for _ in range(2):  # the migrations can be repeated
        await apply_migrations(url)

    await sql.reload_schema_state()
    after = await read_tables(sql)
    kept = {key: value for key, value in before.items() if key != "outlast_settings"}
    assert lost_values(kept, after) == []
    values = {row["key"]: row["value"] for row in after["outlast_settings"]}
    previous_values = {row["key"]: row["value"] for row in before["outlast_settings"]}
    assert values.pop("version") > previous_values.pop("version")
    assert previous_values.items() <= values.items()
    assert (await begin(sql, finished, uuid4()))["state"] == "done"
    assert (
        await finish(
            sql, unfinished, unfinished_lease, [stored(unfinished) | {"path": before["outlast_objects"][0]["path"]}]
        )
    )["state"] == "recorded", "a worker of the first release finishes its running task"
    assert await sql.fetchval("select refs from outlast_objects") == 2
