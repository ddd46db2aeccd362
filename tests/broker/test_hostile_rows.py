"""Rows that a hostile user wrote: the sweep, the dry run and the workers serve all other rows as before."""

import asyncio
import json
from uuid import UUID, uuid4

import pytest

from tests.broker.test_reconcile import generation, media, outlast
from tests.metric_values import metric_value
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS

ENDED = {"completed", "partial", "failed", "cancelled"}
DEEP = 5_000
OUTPUTS = {
    "a jsonb text with a lone surrogate": (
        "jsonb",
        json.dumps(r'{"url": "SOURCE/files/tone.wav?x=\ud800"}'),
        "completed",
    ),
    "a text with a lone surrogate": ("text", r'{"url": "SOURCE/files/tone.wav?x=\ud800"}', "completed"),
    "a text with NUL": ("text", r'{"url": "SOURCE/files/tone.wav?x=\u0000"}', "completed"),
    "a json with NUL": ("json", r'{"url": "SOURCE/files/tone.wav", "seed": "\u0000"}', "completed"),
    "a json with a lone surrogate": ("json", r'{"url": "SOURCE/files/tone.wav", "seed": "\ud800"}', "completed"),
    "a deeply nested jsonb": ("jsonb", "[" * DEEP + "]" * DEEP, "failed"),
    "a jsonb of a million lists": ("jsonb", f"[{'[],' * 1_000_000}[]]", "failed"),
}
RAISING = """
create function public.refuse() returns trigger language plpgsql as $$
begin
  if new.prompt = 'poison' and new.media_status is distinct from old.media_status then
    {action}
  end if;
  return new;
end $$;
create trigger refuse before update on public.generations for each row execute function public.refuse();
"""
ACTIONS = {
    "raised by the trigger": "raise exception 'not here';",
    "check violation": "raise exception 'not here' using errcode = '23514';",
    "division by zero": "perform 1 / 0;",
    "no privilege": "raise exception 'not here' using errcode = '42501';",
    "lock timeout": "raise exception 'not here' using errcode = '55P03';",
    "statement timeout": "raise exception 'not here' using errcode = '57014';",
}


async def output_type(worker_env, kind):
    """Give the output column of the test's own table another type, as an application may have it."""
    if kind == "jsonb":
        return
    await worker_env.sql.execute(
        "drop trigger outlast_notify_insert on generations; drop trigger outlast_notify_update on generations;"
        f"drop index outlast_unheard; alter table generations alter output type {kind} using output::{kind};"
        "select outlast_install()"
    )


async def insert(worker_env, kind, output, **columns):
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", ${number}" for number in range(3, 3 + len(columns)))
    return await worker_env.sql.fetchval(
        f"insert into generations (status, user_id, output{names})"  # noqa: S608 - values of ours
        f" values ('completed', $1, $2::text::{kind}{values}) returning id::text",
        uuid4(),
        output,
        *columns.values(),
    )


async def wait_until_ended(worker_env, generation_id):
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            tasks = await worker_env.sql.fetch("select * from outlast_tasks where generation_id = $1", generation_id)
            if tasks and all(task["status"] in ENDED for task in tasks):
                return tasks
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("case", OUTPUTS)
async def test_a_row_with_a_hostile_output_is_recorded_and_others_are_swept(worker_env, source, case):
    kind, output, expected = OUTPUTS[case]
    await output_type(worker_env, kind)
    hostile = await insert(worker_env, kind, output.replace("SOURCE", source.url))
    honest = await insert(worker_env, kind, json.dumps({"url": f"{source.url}/files/tone.mp3"}))
    assert (await outlast(worker_env, "reconcile", "--dry-run", "--json"))["found"] == 2
    assert (await worker_env.parts.reconciler.sweep()).enqueued == 2
    [task] = await wait_until_ended(worker_env, honest)
    assert task["status"] == "completed"
    [task] = await wait_until_ended(worker_env, hostile)
    assert task["status"] == expected
    assert (await worker_env.parts.reconciler.sweep()).found.total() == 0
    if expected == "failed":
        assert task["error_code"] in {"row_unreadable", "output_too_large"}
        assert (await media(worker_env, hostile))[0] == "failed"
        assert (await worker_env.take_message("outlast.dead")).headers["x-outlast-error-code"] == task["error_code"]


@pytest.mark.parametrize(
    "moment",
    ["-infinity", "infinity", "4000-01-01 00:00:00+00 BC", "12026-01-01", "9999-12-31 23:59:59-14"],
)
async def test_a_row_with_an_odd_time_is_swept_like_any_other(worker_env, source, moment):
    await worker_env.sweep_rows_of_every_age()
    hostile = await generation(worker_env, {"url": f"{source.url}/files/tone.wav"})
    await worker_env.sql.execute(
        "update generations set created_at = $2::text::timestamptz where id = $1", UUID(hostile), moment
    )
    honest = await generation(worker_env, {"url": f"{source.url}/files/tone.mp3"})
    await worker_env.sql.execute(
        "update generations set created_at = now() - interval '1 hour' where id = $1", UUID(honest)
    )
    assert (await outlast(worker_env, "reconcile", "--dry-run", "--json"))["found"] == 2
    assert (await worker_env.parts.reconciler.sweep(older_than=60)).enqueued == 2
    for each in (honest, hostile):
        [task] = await wait_until_ended(worker_env, each)
        assert task["status"] == "completed"


async def test_outputs_of_more_than_256_mb_together_do_not_stop_the_sweep(worker_env, source):
    """jsonb holds at most 256 MB, so no answer can have all of them."""
    await worker_env.sweep_rows_of_every_age()
    await worker_env.sql.execute(
        "insert into generations (status, output, created_at) select 'completed', to_jsonb(repeat('A', 1350000)),"
        " now() - interval '1 day' from generate_series(1, 210)"
    )
    honest = await generation(worker_env, {"url": f"{source.url}/files/tone.mp3"})
    assert (await outlast(worker_env, "reconcile", "--dry-run", "--json"))["found"] == 211
    assert (await worker_env.parts.reconciler.sweep()).found == {"no_task": 211}
    [task] = await wait_until_ended(worker_env, honest)
    assert task["status"] == "completed"
    assert (await worker_env.parts.reconciler.sweep()).found.total() == 0


async def test_of_a_swept_row_with_too_many_files_the_first_are_taken_and_the_rest_is_reported(worker_env, source):
    await worker_env.pause()
    hostile = await generation(worker_env, [{"url": f"{source.url}/files/tone.wav?n={n}"} for n in range(5_000)])
    assert (await worker_env.parts.reconciler.sweep()).enqueued == 101
    assert await worker_env.message_count("outlast.file_processing.bulk") == 101
    assert (
        await worker_env.sql.fetchval(
            "select sum(cardinality(positions)) from outlast_tasks where generation_id = $1", hostile
        )
        == 1001
    )


@pytest.mark.settings(max_event_files=2)
async def test_more_files_than_max_event_files_make_a_partial_generation_and_a_dead_letter(worker_env, source):
    names = ("tone.wav", "tone.mp3", "photo.png")
    hostile = await generation(worker_env, [{"url": f"{source.url}/files/{name}"} for name in names])
    await worker_env.parts.reconciler.sweep()
    [task] = await wait_until_ended(worker_env, hostile)
    assert (task["status"], task["error_code"]) == ("partial", "too_many_files")
    status, entries = await media(worker_env, hostile)
    assert status == "partial"
    assert [(entry["status"], entry.get("code")) for entry in entries] == [
        ("stored", None),
        ("stored", None),
        ("failed", "too_many_files"),
    ]
    dead = await worker_env.take_message("outlast.dead")
    assert dead.headers["x-outlast-error-code"] == "too_many_files"


async def test_ids_that_are_too_long_are_not_accepted_from_a_row(worker_env, source):
    await worker_env.sql.execute(
        'drop policy "owners read their generations" on generations;'
        "alter table generations alter user_id type text using user_id::text"
    )
    hostile, honest = [await generation(worker_env, {"url": f"{source.url}/files/tone.mp3"}) for _ in range(2)]
    await worker_env.sql.execute(
        "update generations set user_id = (select string_agg(md5(n::text), '') from generate_series(1, 1000) n)"
        " where id = $1",
        UUID(hostile),
    )
    await worker_env.parts.reconciler.sweep()
    [task] = await wait_until_ended(worker_env, honest)
    assert task["status"] == "completed"
    [task] = await wait_until_ended(worker_env, hostile)
    assert (task["status"], task["error_code"]) == ("failed", "row_unreadable")


@pytest.mark.parametrize("case", ACTIONS)
async def test_a_row_that_refuses_its_media_is_no_outage_and_is_written_later(worker_env, source, case):
    await worker_env.sql.execute(RAISING.format(action=ACTIONS[case]))
    output = json.dumps({"url": f"{source.url}/files/tone.wav"})
    hostile = [await insert(worker_env, "jsonb", output, prompt="poison") for _ in range(6)]
    honest = await insert(worker_env, "jsonb", output)
    await worker_env.parts.reconciler.sweep()
    for each in (*hostile, honest):
        [task] = await wait_until_ended(worker_env, each)
        assert task["status"] == "completed"
        assert await worker_env.sql.fetchval("select count(*) from outlast_files where generation_id = $1", each) == 1
        assert task["error_code"] == (None if each == honest else "row_rejected")
    assert worker_env.outcome_count("retried_uncounted", "file_processing.bulk") == 0
    assert metric_value(worker_env.metrics.circuit_open.labels("database")) == 0
    assert (await media(worker_env, honest))[0] == "completed"
    assert (await media(worker_env, hostile[0]))[0] is None
    await worker_env.sql.execute(
        "drop trigger refuse on generations; update outlast_rejected_rows set retry_at = now()"
    )
    await worker_env.parts.reconciler.sweep()
    for each in hostile:
        status, stored = await media(worker_env, each)
        assert (status, len(stored)) == ("completed", 1)
    assert await worker_env.sql.fetchval("select count(*) from outlast_tasks where error_code is not null") == 0
    assert await worker_env.sql.fetchval("select count(*) from outlast_rejected_rows") == 0


async def test_rows_with_nul_in_urls_do_not_open_the_circuit(worker_env, source):
    url = rf'{{"url": "{source.url}/files/nothing-here.png?status=410&x=\u0000"}}'
    hostile = [await insert(worker_env, "jsonb", json.dumps(url)) for _ in range(20)]
    honest = await generation(worker_env, {"url": f"{source.url}/files/tone.mp3"})
    await worker_env.parts.reconciler.sweep()
    for each in (honest, *hostile):
        await wait_until_ended(worker_env, each)
    assert worker_env.outcome_count("retried_uncounted", "file_processing.bulk") == 0
    assert worker_env.outcome_count("retried", "file_processing.bulk") == 0
    async with asyncio.timeout(WAIT_SECONDS):
        while (await media(worker_env, honest))[0] != "completed":
            await asyncio.sleep(0.05)
