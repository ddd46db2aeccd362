"""The lists of tasks and of dead letters: totals, filters, live updates; and pausing a queue."""

import asyncio
import json

from tests.console.conftest import INCOMPLETE, TOKEN, signed_in
from tests.time_limits import WAIT_SECONDS


async def test_filters_by_several_states_by_host_and_by_end_count_what_they_list(worker_env):
    await worker_env.sql.execute(
        "insert into outlast_tasks (task_id, generation_id, status, error_code, created_at, finished_at) select"
        " ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 'g' || i,"
        " (array['completed', 'failed', 'partial'])[1 + i % 3], (array[null, 'corrupted', 'source_gone'])[1 + i % 3],"
        " now() - i * interval '1 min', now() - i * interval '1 min' from generate_series(1, 120) i;"
        "insert into outlast_attempts (task_id, attempt, status, host) select task_id, 1, 'failed', 'h' || right("
        " generation_id, 1) from outlast_tasks where status <> 'completed'"
    )

    async def listed(**filters):
        arguments = json.dumps(filters)
        rows = json.loads(await worker_env.sql.fetchval("select outlast_console_tasks($1, null, 100)", arguments))
        assert await worker_env.sql.fetchval("select outlast_console_count($1)", arguments) == str(len(rows))
        assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
        return {row["generation_id"] for row in rows}

    assert len(await listed(status="failed,partial")) == 80
    assert await listed(status="failed,partial", q="g1") == {"g1"}
    assert len(await listed(status="failed,partial", ended="-infinity", since="-infinity")) == 80
    assert await listed(host="h7", code="corrupted") == {"g7", "g37", "g67", "g97"}
    assert json.loads(await worker_env.sql.fetchval("select outlast_console_count('{}', 50)")) == 51
    choices = json.loads(await worker_env.sql.fetchval("select outlast_console_choices()"))
    assert choices == {"codes": ["corrupted", "source_gone"], "hosts": [f"h{n}" for n in range(10)]}
    trend = json.loads(await worker_env.sql.fetchval("select outlast_console_trend(2, 2)"))
    assert sum(part["stored"] + part["failed"] for part in trend) in {119, 120}  # the oldest is just two hours old
    assert {part["ago"] for part in trend} == {0, 1}
    now = json.loads(await worker_env.sql.fetchval("select outlast_console_now()"))
    assert [(part["ago"], part["n"]) for part in now["arrived"]] == [(i, 1) for i in range(1, 60)]
    kinds = {0: "completed", 1: "failed", 2: "failed"}  # partial tasks count as failed
    assert [(e["ago"], e["status"], e["n"]) for e in now["ended"]] == [(i, kinds[i % 3], 1) for i in range(1, 60)]
    assert all(e["age"] == -60 * e["ago"] for e in now["ended"] if e["status"] == "completed")
    assert now["files"] == {"stored": 0, "original": 0, "bytes": 0, "deduplicated": 0}


def is_incomplete(page):
    return INCOMPLETE.strip("[]") in page


async def test_a_paused_queue_keeps_its_jobs_until_it_is_resumed(console, worker_env, source):
    async with signed_in(console, TOKEN) as (session, form_token):

        async def press(verb, *, paused):
            """Press a button; return when the page shows whether the queue is paused."""
            fields = {"form_token": form_token, "queue": "file_processing", "verb": verb}
            answer = await session.post(f"{console}queues/pause", data=fields)
            await worker_env.worker.renew_leases()
            async with asyncio.timeout(WAIT_SECONDS):
                while is_incomplete(text := await answer.text()) or ("is paused by Ada" in text) != paused:
                    answer = await session.get(console)

        await press("pause", paused=True)
        await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav"))
        await worker_env.send(worker_env.job(f"{source.url}/files/tone.mp3", queue="file_processing.bulk"))
        await worker_env.wait_for_outcome("completed", queue="file_processing.bulk")
        assert await worker_env.message_count("outlast.file_processing") == 1
        await press("resume", paused=False)
        await worker_env.wait_for_outcome("completed")
        history = await (await session.get(f"{console}history")).text()
        assert "resume</a>" in history
        fields = {"form_token": form_token, "queue": "none", "verb": "pause"}
        assert (await session.post(f"{console}queues/pause", data=fields)).status == 404


async def test_lists_update_while_they_are_watched_but_not_under_a_selection(operator, worker_env, vhost, source):
    await worker_env.worker.stop(0)
    await vhost.dead_letter(vhost.job(f"{source.url}/1.png"))
    await operator.open("tasks")
    await operator.sign_in()
    await operator.page.wait_for_selector("text=0 tasks")
    await worker_env.sql.execute("insert into outlast_tasks (task_id, generation_id) values (gen_random_uuid(), 'g1')")
    await operator.page.wait_for_selector("text=1 task, newest first")
    await operator.open("dead/letters")
    await operator.page.wait_for_selector("text=1 dead letter, oldest failure first")
    await operator.page.check("input[name=ids]")
    await vhost.dead_letter(vhost.job(f"{source.url}/2.png"), minutes=1)
    other = await operator.page.context.new_page()
    await other.goto(f"{operator.url}dead")
    async with asyncio.timeout(WAIT_SECONDS):
        await other.wait_for_selector("text=2 dead letters in 1 group")
    assert await operator.page.locator("input[name=ids]:checked").count() == 1
    await operator.page.uncheck("input[name=ids]")
    await operator.page.wait_for_selector("text=2 dead letters, oldest failure first")
    await other.close()
