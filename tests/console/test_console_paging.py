"""A page of tasks reads about as many rows as it shows, however many tasks there are."""

import json

import asyncpg
import pytest

PAGE = 51
TASKS = 20_000
ROWS_READ = (
    "select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int from pg_stat_xact_user_tables"
    " where relname = 'outlast_tasks'"
)


@pytest.fixture
async def many_tasks(database_url):
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


async def read_page(sql, filters, before):
    """Return a page, and the number of rows that were read for it."""
    async with sql.transaction():
        rows_before = await sql.fetchval(ROWS_READ)
        page = await sql.fetchval("select outlast_console_tasks($1, $2, $3)", json.dumps(filters), before, PAGE)
        return json.loads(page), await sql.fetchval(ROWS_READ) - rows_before


FILTERS = (
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


async def test_a_page_far_down_reads_no_more_rows_than_the_first(many_tasks):
    position = await many_tasks.fetchrow(
        "select created_at, task_id from outlast_tasks order by created_at offset 9000 limit 1"
    )
    for filters in FILTERS:
        for before in (None, json.dumps([position["created_at"].isoformat(), str(position["task_id"])])):
            rows, read = await read_page(many_tasks, filters, before)
            is_single = filters.get("q", "u").startswith(("g", "r"))
            assert len(rows) == (PAGE if not is_single else before is None), filters
            assert read <= 5 * PAGE, f"{filters}: {read} rows read"


async def test_the_pages_of_a_user_contain_each_task_once_in_order(many_tasks):
    seen, before = [], None
    for _ in range(4):
        rows, _ = await read_page(many_tasks, {"q": "u1"}, before)
        seen += [row["created_at"] for row in rows]
        before = json.dumps([rows[-1]["created_at"], rows[-1]["task_id"]])
    assert len(set(seen)) == 4 * PAGE
    assert seen == sorted(seen, reverse=True)
