"""500 concurrent tasks, 50 of them cancelled at random moments: every interface reports the same final states."""

import asyncio
import json
import random
from uuid import UUID, uuid4

from tests.time_limits import LONG_WAIT_SECONDS
from worker.background_tasks import BackgroundTaskManager

TASKS = 500
CANCELLED = 50


async def final_streamed_status(http, task_id, ended):
    """Return the last status of the event stream, and append the task to `ended`."""
    state = None
    async with http.get(f"/tasks/{task_id}/events") as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data: "):
                state = json.loads(line[6:])
    ended.append(task_id)
    return state["status"]


async def submit(http, url):
    submission = {"urls": [url, f"{url}&again"], "user_id": "u", "generation_id": str(uuid4())}
    key = {"Idempotency-Key": submission["generation_id"]}
    while True:
        async with http.post("/tasks", json=submission, headers=key) as response:
            if response.status == 202:
                return (await response.json())["task_id"]
            assert response.status == 503, "nothing but: come again, I am busy"
            await asyncio.sleep(float(response.headers["Retry-After"]))


async def cancel_at(http, task_id, moment, ended):
    """Cancel a task after `moment` other tasks have ended, so that some are always still pending."""
    while len(ended) < moment:
        await asyncio.sleep(0.02)
    async with http.delete(f"/tasks/{task_id}") as response:
        return (await response.json())["cancelled"]


async def test_stream_api_and_database_agree_and_no_cancelled_task_has_files(worker_env, http, source):
    rng, ended = random.Random(7), []  # noqa: S311 - the same moments in every run
    url = source.file_url("tone.wav", slow=4_000_000)
    tasks = [await submit(http, url) for _ in range(TASKS // 5)]
    tasks += await asyncio.gather(*(submit(http, url) for _ in range(TASKS - len(tasks))))
    assert len(set(tasks)) == TASKS
    to_cancel = rng.sample(tasks, CANCELLED)
    async with asyncio.timeout(LONG_WAIT_SECONDS), asyncio.TaskGroup() as group:
        watching = {task: group.create_task(final_streamed_status(http, task, ended)) for task in tasks}
        moments = {task: rng.uniform(0, 0.7 * TASKS) for task in to_cancel}
        ending = {task: group.create_task(cancel_at(http, task, moments[task], ended)) for task in to_cancel}
    streamed = {task: done.result() for task, done in watching.items()}
    rows = await worker_env.sql.fetch("select task_id::text, status from outlast_tasks")
    assert {row["task_id"]: row["status"] for row in rows} == streamed
    assert {task for task in tasks if streamed[task] == "cancelled"} == {
        task for task, done in ending.items() if done.result()
    }
    assert set(streamed.values()) == {"completed", "cancelled"}
    assert list(streamed.values()).count("cancelled") > CANCELLED // 5
    async with BackgroundTaskManager(worker_env.settings) as manager:
        assert {task: (await manager.get_task_status(task))["status"] for task in tasks} == streamed
    for task in rng.sample(tasks, 20):
        async with http.get(f"/tasks/{task}") as response:
            assert (await response.json())["status"] == streamed[task]
    recorded = await worker_env.sql.fetch("select task_id, count(*) as files from outlast_files group by task_id")
    completed = {UUID(task) for task in tasks if streamed[task] == "completed"}
    assert {row["task_id"]: row["files"] for row in recorded} == dict.fromkeys(completed, 2)
