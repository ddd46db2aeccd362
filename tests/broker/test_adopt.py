"""`outlast adopt` stores the files of generations from before the installation; the sweep leaves them alone."""

import asyncio
import json
import signal
from collections import Counter

from handlers.database.reconcile_records import MissingQuery, ReconcileRecords
from tests.metric_values import metric_value
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS
from worker.periodic.sweep_plan import SweepPlanner

OLD = (
    "insert into generations (status, user_id, output, created_at)"
    " select 'completed', md5('u')::uuid, replace($1, '#', n::text)::jsonb, now() - interval '60 days'"
    " + make_interval(mins => n) from generate_series(1, $2) n returning id"
)
CLIPS = """
create table public.clips (id int primary key, video_url text, made timestamptz);
insert into public.clips select n, '$url?n=' || n, now() - interval '60 days' from generate_series(1, 2) n;
insert into public.outlast_bindings (name, "table", output_columns, created_column, media_column, media_status_column)
  values ('clips', 'clips', '{video_url}', 'made', 'media', 'media_status');
select public.outlast_install();
"""


async def insert_old(worker_env, output, count=1):
    """Insert rows from 60 days ago; `#` in the output is the number of the row. Return their ids."""
    return [row["id"] for row in await worker_env.sql.fetch(OLD, json.dumps(output), count)]


async def adopt(worker_env, *arguments, code=0):
    process = await worker_env.start_command("adopt", "--json", *arguments)
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert process.returncode == code, err.decode()
    return json.loads(out)


async def statuses(worker_env):
    rows = await worker_env.sql.fetch("select media_status, count(*) from generations group by 1")
    return {row["media_status"]: row["count"] for row in rows}


async def test_first_start_with_2100_old_rows_enqueues_nothing(worker_env, source):
    await insert_old(worker_env, {"url": f"{source.url}/files/tone.wav?n=#"}, 2100)
    swept = await worker_env.parts.reconciler.sweep()
    assert (swept.found.total(), swept.enqueued) == (0, 0)
    assert await worker_env.message_count("outlast.file_processing.bulk") == 0
    planned = await adopt(worker_env, "--dry-run")
    expected = planned["expected"]
    assert (expected["generations"], expected["files"], expected["live_files"]) == (2100, 2100, 2100)
    assert expected["sample"] == {"links": 40, "live": 40}
    assert expected["bytes"] == 2100 * (source.folder / "tone.wav").stat().st_size
    assert (planned["enqueued"], planned["dry_run"]) == (0, True)
    assert await worker_env.sql.fetchval("select count(*) from outlast_tasks") == 0


async def test_dead_and_forbidden_links_are_counted_and_become_no_dead_letters(worker_env, source):
    live, dead = f"{source.url}/files/tone.wav?n=#", f"{source.url}/files/gone-#.png"
    await insert_old(worker_env, {"url": live}, 3)
    await insert_old(worker_env, {"images": [{"url": dead}, {"url": live}]}, 2)
    await insert_old(worker_env, {"image": {"url": "https://elsewhere.example/#.png", "content_type": "image/png"}}, 4)
    await insert_old(
        worker_env, {"image": {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"}}
    )
    young = await worker_env.sql.fetchval(
        "insert into generations (status, output) values ('completed', $1) returning id", json.dumps({"url": live})
    )
    report = await adopt(worker_env, "--until", "2999-01-01")
    assert (report["enqueued"], report["done"], report["stored_files"]) == (10, 10, 5)
    assert report["codes"]["source_forbidden"] == 4
    assert report["codes"]["source_gone"] == 2
    assert report["expected"]["sample"]["source_forbidden"] == 4
    rows = await worker_env.sql.fetch(
        "select media, media_status from generations where created_at < now() - '1 day'::interval"
    )
    by_code = [entry["code"] for row in rows for entry in json.loads(row["media"]) if entry["status"] == "failed"]
    assert Counter(by_code) == {"source_forbidden": 4, "source_gone": 2, "corrupted": 1}
    assert (await statuses(worker_env))["partial"] == 2
    assert await worker_env.message_count("outlast.dead") == 1, "the incomplete picture"
    assert worker_env.outcome_count("dead_links", "file_processing.bulk") == 6
    assert worker_env.outcome_count("failed", "file_processing.bulk") == 1
    assert sum(metric_value(child) for child in worker_env.metrics.source_denied._metrics.values()) == 0
    assert await worker_env.sql.fetchval("select media_status from generations where id = $1", young) is None
    assert (await adopt(worker_env))["enqueued"] == 0


async def test_killed_run_is_continued_and_a_further_run_finds_nothing(worker_env, source):
    await insert_old(worker_env, {"url": f"{source.url}/files/tone.wav?n=#"}, 30)
    records = ReconcileRecords(worker_env.parts.supabase)
    page = await records.missing(MissingQuery(None, None, 0, past="generations"))
    # As a crash leaves it between recording a task and publishing its job.
    await records.requeue(SweepPlanner(worker_env.settings, adopt=True).jobs(page.entries[0]))
    await worker_env.sql.execute("update outlast_tasks set updated_at = now() - interval '1 minute'")
    killed = await worker_env.start_command("adopt", "--rate", "3/s", "--json")
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while await worker_env.sql.fetchval("select count(*) from outlast_tasks") < 5:
            await asyncio.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    await killed.communicate()
    recorded = await worker_env.sql.fetchval("select count(*) from outlast_tasks")
    assert recorded < 30
    # It may have been killed between the two. A task that is queued for so long is taken to be without a message.
    await worker_env.sql.execute(
        "update outlast_tasks set updated_at = now() - interval '1 minute' where status = 'queued'"
    )
    report = await adopt(worker_env)
    assert report["enqueued"] >= 30 - recorded
    async with asyncio.timeout(WAIT_SECONDS):
        while await statuses(worker_env) != {"completed": 30}:
            await asyncio.sleep(0.05)
    assert (await adopt(worker_env))["enqueued"] == 0
    assert (await adopt(worker_env))["all_runs"] == {"tasks": {"completed": 30}, "stored_files": 30, "codes": {}}


async def test_interrupt_stops_after_the_current_generation_and_limit_and_rate_hold(worker_env, source):
    await insert_old(worker_env, {"url": f"{source.url}/files/tone.wav?n=#"}, 20)
    assert (await adopt(worker_env, "--limit", "2"))["done"] == 2
    process = await worker_env.start_command("adopt", "--rate", "1/s", "--json")
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while await worker_env.sql.fetchval("select count(*) from outlast_tasks") < 3:
            await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    report = json.loads(out)
    assert (process.returncode, report["aborted"]) == (3, True)
    assert 1 <= report["enqueued"] < 18


async def test_only_the_old_rows_of_the_named_binding_are_adopted(worker_env, source):
    await insert_old(worker_env, {"url": f"{source.url}/files/tone.wav?n=#"})
    await worker_env.sql.execute(CLIPS.replace("$url", f"{source.url}/files/tone.mp3"))
    report = await adopt(worker_env, "--binding", "clips")
    assert (report["expected"]["generations"], report["enqueued"], report["done"]) == (2, 2, 2)
    assert await worker_env.sql.fetchval("select array_agg(media_status) from clips") == ["completed"] * 2
    assert await statuses(worker_env) == {None: 1}


async def test_unknown_binding_and_wrong_values_are_usage_errors(worker_env):
    for arguments, message in (
        (["--binding", "other"], "no binding 'other'"),
        (["--since", "soon"], "--since"),
        (["--rate", "fast"], "--rate"),
    ):
        process = await worker_env.start_command("adopt", *arguments)
        _, err = await process.communicate()
        assert process.returncode == 2
        assert message in err.decode()
