"""The index that the sweep uses: it covers the rows to check, and follows the settings."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

Make = Callable[..., dict[str, Any]]
ROWS, LOST_EVERY = 200_000, 1000
# Every 1000th row is incomplete: alternately it has no task, or a part of its output is missing.
LOAD = """
set role none;
set session_replication_role = replica;
update public.outlast_bindings set installed_at = '-infinity';
insert into public.generations (id, status, output, media_status, created_at)
  select md5(n::text)::uuid, 'completed', '{"images": []}',
    case when n % 2000 = 0 then 'pending' when n % 1000 <> 0 then 'completed' end,
    timestamptz '2026-01-01' + make_interval(secs => n)
  from generate_series(1, $rows) n;
insert into public.outlast_tasks (task_id, generation_id, status, source, positions, source_keys, total_files,
                                  output_key, created_at, updated_at)
  select md5('task' || n)::uuid, md5(n::text)::uuid::text,
    (array['completed', 'completed', 'partial', 'failed', 'cancelled'])[1 + (n / 2000) % 5],
    'supabase', '{0}', array['k'], case when n % 2000 = 0 then 2 else 1 end, 'o', moment, moment
  from generate_series(1, $rows) n, lateral (select timestamptz '2026-01-01' + make_interval(secs => n)) m (moment)
  where n % 2000 <> 1000;
reset session_replication_role;
set role postgres;
analyze public.generations;
analyze public.outlast_tasks;
""".replace("$rows", str(ROWS))
LOST = """
select array_agg(md5(n::text)::uuid::text order by n) from generate_series(1000, $rows, 1000) n
where n % 2000 <> 0 or (n / 2000) % 5 <> 4
""".replace("$rows", str(ROWS))
READS = """
select sum(seq_tup_read)::int from pg_stat_user_tables where relname in ('generations', 'outlast_tasks')
"""
QUERY = """
select public.outlast_missing_rows_query('generations', format('g.%I is not null', g.created_name) || {since},
  'dated', now() - interval '2 hours', 500) from public.outlast_bound('generations') g
"""
SINCES = ["''", "format(' and g.%I >= ''2026-01-02''', g.created_name)"]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", []) for node in nodes(part))]


async def plan_of(connection: asyncpg.Connection, sql: str) -> list[dict[str, Any]]:
    found = await connection.fetchval(f"explain (format json) {sql}")
    return nodes((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])


def scans(plan: list[dict[str, Any]]) -> set[tuple[str, str | None]]:
    """Return the tables that are read, each with the index used."""
    return {(node["Relation Name"], node.get("Index Name")) for node in plan if "Relation Name" in node}


async def test_hundreds_of_thousands_of_settled_generations_and_ended_tasks_are_not_read(own_db: Any) -> None:
    async with own_db.pool.acquire() as connection:
        await connection.execute(LOAD)
        for since in SINCES:
            plan = await plan_of(connection, await connection.fetchval(QUERY.format(since=since)))
            print(since, json.dumps(plan[0], indent=1))  # noqa: T201 - shown when the test fails
            assert plan[0]["Node Type"] == "Limit"
            assert plan[0]["Plans"][0]["Node Type"] != "Sort"
            assert scans(plan) == {("generations", "outlast_unheard"), ("outlast_tasks", "outlast_tasks_generation")}
        lost = await connection.fetchval(LOST)
        before = await sequential_reads(connection)
        found = await connection.fetchval("select public.outlast_missing(p_limit => 1000)")
        in_part = await connection.fetchval("select public.outlast_missing(p_since => '2026-01-02', p_limit => 20)")
        assert await sequential_reads(connection) == before
        # The counter works: without the index the same query reads every row.
        await connection.execute("drop index public.outlast_unheard")
        await connection.fetchval("select public.outlast_missing(p_limit => 1000)")
        assert await sequential_reads(connection) >= before + ROWS
    assert [entry["generation_id"] for entry in found] == lost
    assert [entry["generation_id"] for entry in in_part] == [
        entry["generation_id"] for entry in found if entry["created_at"] >= "2026-01-02"
    ][:20]


async def sequential_reads(connection: asyncpg.Connection) -> int:
    """Return the number of rows of the two tables read by sequential scans so far."""
    await connection.execute("select pg_stat_force_next_flush()")
    return int(await connection.fetchval(READS))


CHANGES = [
    ("text", "done", "done", "new", "created_at"),
    ("varchar(20)", "done", "done", "new", "created_at"),
    ("app.state", "finished", "finished", "new", "made"),
    ("boolean", "true", "true", "false", "made"),
]


@pytest.mark.parametrize(("kind", "completed", "done", "new", "created"), CHANGES)
async def test_the_index_is_used_for_any_type_of_status(
    own_db: Any, kind: str, completed: str, done: str, new: str, created: str
) -> None:
    await own_db.run("create schema app; create type app.state as enum ('new', 'finished')")
    await own_db.run(
        f'create table app."Renders" (id bigint primary key generated always as identity, "State" {kind},'
        " output text, created_at timestamptz, made timestamp)"
    )
    await own_db.bind(status_column="State", completed_values=[completed], created_column=created)
    assert (await own_db.call("outlast_health"))["sweep_index"] is False
    assert (await own_db.install(p_schema="app", p_table="Renders"))["sweep_index"] is True
    assert await indexes(own_db) == ['app."Renders"']
    await own_db.run(
        'insert into app."Renders" ("State", output, media_status, created_at, made)'  # noqa: S608 - values of ours
        f" select case when n % 2 = 0 then '{done}' else '{new}' end::{kind}, '[]',"
        " case when n % 500 <> 0 then 'completed' end, now(), now() from generate_series(1, 20000) n"
    )
    await own_db.run('analyze app."Renders"')
    assert len(await own_db.call("outlast_missing")) == 40
    async with own_db.pool.acquire() as connection:
        for since in SINCES:
            plan = await plan_of(connection, await connection.fetchval(QUERY.format(since=since)))
            assert ("Renders", "outlast_unheard") in scans(plan)


async def test_the_index_is_rebuilt_only_when_the_settings_change(own_db: Any) -> None:
    made = "select oid from pg_class where relname = 'outlast_unheard'"
    first = await own_db.value(made)
    assert (await own_db.install())["sweep_index"] is True
    assert await own_db.value(made) == first
    await own_db.bind(completed_values=["done"])
    assert (await own_db.install())["sweep_index"] is True
    assert await own_db.value(made) == first, "the completed value is not part of the index"
    changes = {"status_column": "model", "created_column": "updated_at", "output_columns": ["prompt"]}
    for field, value in changes.items():
        await own_db.bind(**{field: value})
        assert (await own_db.call("outlast_health"))["sweep_index"] is False
        assert (await own_db.install())["sweep_index"] is True
        name = value[0] if isinstance(value, list) else value
        assert name in await own_db.value("select pg_get_indexdef('public.outlast_unheard'::regclass)")
    await own_db.run("create table public.others (like public.generations)")
    assert (await own_db.install(p_table="others"))["sweep_index"] is True
    assert await indexes(own_db) == ["others"]


async def indexes(db: Any) -> list[str]:
    rows = await db.pool.fetch(
        "select indrelid::regclass::text as name from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where relname = 'outlast_unheard'"
    )
    return [row["name"] for row in rows]


async def test_without_the_index_install_warns_and_the_sweep_works(own_db: Any, database_url: str) -> None:
    """A column of type json cannot be indexed, and can only be compared with the completed value as text."""
    await own_db.run(
        "drop index public.outlast_unheard; alter table public.generations alter status drop default;"
        "alter table public.generations alter status type json using to_json(status);"
    )
    await own_db.bind(completed_values=['"completed"'])
    notices: list[str] = []
    connection = await asyncpg.connect(database_url)
    connection.add_log_listener(lambda _, message: notices.append(message.message))
    await connection.execute("select public.outlast_install()")
    await connection.close()
    assert [line for line in notices if "no index on public.generations" in line]
    assert (await own_db.call("outlast_health"))["sweep_index"] is False
    assert await own_db.call("outlast_missing") == []
    generation = await own_db.generation(status='"completed"')
    assert [found["generation_id"] for found in await own_db.call("outlast_missing")] == [generation]


async def test_an_enum_gains_the_completed_value_after_the_index_was_created(own_db: Any) -> None:
    await own_db.run("create type public.state as enum ('new')")
    await own_db.run("alter table public.generations alter status drop default, alter status type state using 'new'")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="whose values are: new"):
        await own_db.install()
    assert await own_db.call("outlast_missing") == []
    await own_db.run("alter type public.state add value 'completed'")
    generation = await own_db.generation()
    assert [found["generation_id"] for found in await own_db.call("outlast_missing")] == [generation]
    assert (await own_db.install())["sweep_index"] is True


async def test_a_table_without_triggers_is_swept(own_db: Any) -> None:
    await own_db.run("create table public.unbound (like public.generations)")
    await own_db.run("alter table public.unbound drop column media, drop column media_status")
    await own_db.run(
        "insert into public.unbound (id, status, output, created_at) values ($1, 'completed', '{}', now())", uuid4()
    )
    await own_db.bind(table="unbound")
    assert len(await own_db.call("outlast_missing")) == 1


async def test_a_completed_output_that_gains_a_missing_part_is_missing(db: Any, make_job: Make) -> None:
    """Its first part is completed as part of an older output, so no worker begins it again."""
    generation = await db.generation()
    await db.attempt(make_job(generation, ["a"]), stored=["a"])
    assert (await db.media(generation))[1] == "completed"
    assert await db.call("outlast_missing") == []
    grown = make_job(generation, ["a"], all_keys=["a", "b"], event_at="2026-11-01T12:00:00Z")
    assert (await db.call("outlast_enqueue", p_job=grown))["status"] == "completed"
    (found,) = await db.call("outlast_missing")
    assert (found["generation_id"], found["reason"]) == (generation, "incomplete")
