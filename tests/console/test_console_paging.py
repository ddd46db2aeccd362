"""However many tasks there are, a page of them reads no more rows than it shows."""

import json

import asyncpg
import pytest

PAGE = 51
TASKS = 20_000
COUNTED = (
    "select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int from pg_stat_xact_user_tables"
    " where relname = 'outlast_tasks'"
)


@pytest.fixture
async def many(database_url):
    sql = await asyncpg.connect(database_url)
    await sql.execute(
        "insert into outlast_tasks (task_id, generation_id, request_id, user_id, status, queue, error_code, created_at)"
        " select gen_random_uuid(), 'g' || i, 'r' || i, 'u' || i % 2,"
        " (array['completed', 'failed', 'completed', 'queued'])[1 + i % 4],"
        " (array['file_processing', 'file_processing.bulk'])[1 + i / 4 % 2],"
        " (array[null, 'corrupted', null, null])[1 + i % 4], now() - i * interval '1 s' from generate_series(1, $1) i",
        TASKS,
    )
    await sql.execute("analyze outlast_tasks")
    yield sql
    await sql.close()


async def asked(sql, chosen, before):
    """Return a page, and how many rows were read for it."""
    async with sql.transaction():
        earlier = await sql.fetchval(COUNTED)
        found = await sql.fetchval("select outlast_console_tasks($1, $2, $3)", json.dumps(chosen), before, PAGE)
        return json.loads(found), await sql.fetchval(COUNTED) - earlier


QUESTIONS = (
    {},
    {"status": "failed"},
    {"status": "completed", "queue": "file_processing"},
    {"queue": "file_processing.bulk"},
    {"code": "corrupted", "status": "failed"},
    {"until": "2999-01-01", "since": "2000-01-01"},
    {"q": "u1"},
    {"q": "u1", "status": "failed"},
    {"q": "g77"},
    {"q": "r77"},
)


async def test_a_page_far_down_reads_no_more_rows_than_the_first(many):
    place = await many.fetchrow("select created_at, task_id from outlast_tasks order by created_at offset 9000 limit 1")
    for chosen in QUESTIONS:
        for before in (None, json.dumps([place["created_at"].isoformat(), str(place["task_id"])])):
            rows, read = await asked(many, chosen, before)
            one = chosen.get("q", "u").startswith(("g", "r"))
            assert len(rows) == (PAGE if not one else before is None), chosen
            assert read <= 5 * PAGE, f"{chosen}: {read} rows read"


async def test_the_pages_of_a_user_hold_each_task_once_and_in_order(many):
    seen, before = [], None
    for _ in range(4):
        rows, _ = await asked(many, {"q": "u1"}, before)
        seen += [row["created_at"] for row in rows]
        before = json.dumps([rows[-1]["created_at"], rows[-1]["task_id"]])
    assert len(set(seen)) == 4 * PAGE
    assert seen == sorted(seen, reverse=True)
