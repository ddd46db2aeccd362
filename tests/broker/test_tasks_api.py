"""The task API with a real worker: tasks submitted over HTTP and from Python, streamed and cancelled."""

import asyncio
import io
import json
from uuid import UUID, uuid4

import pytest

from handlers.errors import DatabaseUnavailableError
from tests.time_limits import WAIT_SECONDS
from worker.background_tasks import BackgroundTaskManager, UnknownTaskError
from worker.tasks.service import Receipt, TaskService, read_submission


@pytest.fixture
def manager(worker_env):
    return BackgroundTaskManager(worker_env.settings)


def body(*urls, **more):
    return {"urls": list(urls), "user_id": "u", "generation_id": str(uuid4())} | more


async def events(http, task_id, last=None):
    """Return all events of a task's stream as (id, state)."""
    states, headers = [], {"Last-Event-ID": last} if last else {}
    async with asyncio.timeout(WAIT_SECONDS), http.get(f"/tasks/{task_id}/events", headers=headers) as response:
        assert response.status == 200
        event = {}
        async for raw in response.content:
            name, _, value = raw.decode().strip().partition(": ")
            if name:
                event[name] = value
            elif "data" in event:
                states.append((event["id"], json.loads(event["data"])))
                event = {}
    return states


async def test_submitted_task_streams_events_until_completed(http, source):
    async with http.post("/tasks", json=body(f"{source.url}/files/photo.png?slow=400000")) as response:
        assert response.status == 202
        task_id = (await response.json())["task_id"]
        assert response.headers["Location"] == f"/tasks/{task_id}"
    states = await events(http, task_id)
    assert [state["status"] for _, state in states][-1] == "completed"
    assert any(state["progress"] and state["progress"]["downloaded"] for _, state in states)
    last = states[-1][1]
    assert (last["ready"], last["successful"], last["result"]["successful_files"]) == (True, True, 1)
    async with http.get(f"/tasks/{task_id}") as response:
        assert await response.json() == last
    async with http.get(f"/tasks/{task_id}/events", headers={"Last-Event-ID": states[-1][0]}) as response:
        assert response.status == 204
    assert [state for _, state in await events(http, task_id, states[0][0])] == [last]


async def test_same_idempotency_key_returns_the_same_task_also_after_it_ended(worker_env, http, source):
    submission, key = body(f"{source.url}/files/tone.wav"), {"Idempotency-Key": "k1"}
    answers = []
    for _ in range(2):
        async with http.post("/tasks", json=submission, headers=key) as response:
            answers.append((response.status, await response.json()))
        await worker_env.wait_for_outcome("completed")
    assert answers[0] == answers[1]
    assert worker_env.outcome_count("duplicate") == 0
    async with http.post("/tasks", json=submission | {"user_id": "v"}, headers=key) as response:
        assert (response.status, (await response.json())["code"]) == (422, "idempotency_key_reused")
    async with http.post("/tasks", json=submission, headers={"Idempotency-Key": "ü" * 300}) as response:
        assert (response.status, (await response.json())["code"]) == (422, "invalid_key")


async def test_a_repeated_key_publishes_no_job_that_the_settings_would_give_another_task(worker_env, http, source):
    submission, key = body(f"{source.url}/files/tone.wav"), "after a change of settings"
    await worker_env.pause()
    async with http.post("/tasks", json=submission, headers={"Idempotency-Key": key}) as response:
        task_id = (await response.json())["task_id"]
    changed = worker_env.settings.model_copy(update={"image_quality": 40})
    service = TaskService(changed, worker_env.parts.supabase, worker_env.broker)
    receipt = await service.submit(read_submission(**submission), key)
    assert receipt == Receipt(UUID(task_id), is_repeat=True)
    messages = [await worker_env.take_message("outlast.file_processing") for _ in range(2)]
    assert json.loads(messages[0].body)["task_id"] == task_id
    assert messages[1] is None


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"urls": []}, "invalid_submission", "urls"),
        ({"urls": ["ftp://x/y"]}, "invalid_submission", "urls[0]"),
        ({"urls": [f"https://fal.media/{n}" for n in range(11)]}, "batch_too_large", "MAX_BATCH_SIZE"),
        ({"urls": ["data:," + "x" * 9_000_000]}, "task_too_large", "bytes"),
        ({"more": 1}, "invalid_submission", "more: is not known"),
        ({"task_options": {"speed": 1}}, "invalid_submission", "task_options.speed: is not known"),
        ({"task_options": {"quality": 0}}, "invalid_submission", "task_options.quality"),
        ({"user_id": "a\u0000b"}, "invalid_submission", "user_id"),
    ],
)
async def test_invalid_submission_names_the_field(worker_env, http, change, code, message):
    sent = io.BytesIO(json.dumps(body("https://fal.media/a.png") | change).encode())
    async with http.post("/tasks", data=sent, headers={"Content-Type": "application/json"}) as response:
        answer = await response.json()
        assert (response.status, answer["code"]) == (422, code)
        assert message in answer["detail"]
    assert await worker_env.sql.fetchval("select count(*) from outlast_tasks") == 0


async def test_missing_token_is_401_and_unknown_task_is_404(http):
    for method, path in (
        ("POST", "/tasks"),
        ("GET", f"/tasks/{uuid4()}"),
        ("DELETE", f"/tasks/{uuid4()}"),
        ("GET", f"/tasks/{uuid4()}/events"),
        ("GET", "/workers"),
    ):
        async with http.request(method, path, headers={"Authorization": "Bearer nearly"}) as response:
            assert response.status == 401
    for path in (f"/tasks/{uuid4()}", "/tasks/nonsense", f"/tasks/{uuid4()}/events"):
        async with http.get(path) as response:
            assert (response.status, (await response.json())["code"]) == (404, "unknown_task")
    async with http.post("/tasks", data="{}") as response:
        assert response.status == 415


async def test_task_is_cancelled_over_http(worker_env, http, source):
    async with http.post("/tasks", json=body(f"{source.url}/files/photo.png?slow=20000")) as response:
        task_id = (await response.json())["task_id"]
    await worker_env.wait_until_running()
    async with http.delete(f"/tasks/{task_id}") as response:
        assert await response.json() == {"task_id": task_id, "cancelled": True}
    assert [state["status"] for _, state in await events(http, task_id)] == ["cancelled"]


async def test_cancelling_an_unknown_task_is_404_and_leaves_no_task(http):
    path = f"/tasks/{uuid4()}"
    for _ in range(2):
        async with http.delete(path) as response:
            problem = await response.json()
            assert (response.status, problem["code"]) == (404, "unknown_task")
            assert "a job with this id that is still queued will not run" in problem["detail"]
        async with http.get(path) as response:
            assert response.status == 404


async def test_webhook_task_cancelled_before_a_worker_began_it_does_not_run(worker_env, http, source):
    job = worker_env.job(f"{source.url}/files/tone.wav")
    async with http.delete(f"/tasks/{job.task_id}") as response:
        assert response.status == 404
    await worker_env.send(job)
    await worker_env.wait_for_outcome("cancelled")
    async with http.get(f"/tasks/{job.task_id}") as response:
        assert (await response.json())["status"] == "cancelled"


async def test_task_whose_queue_cannot_be_declared_is_recorded_as_failed_and_can_be_submitted_again(
    worker_env, http, source, delete_for_good
):
    submission, key = body(f"{source.url}/files/tone.wav"), {"Idempotency-Key": "again"}
    async with (
        delete_for_good("outlast.file_processing"),
        http.post("/tasks", json=submission, headers=key) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (503, "broker_unavailable")
    recorded = await worker_env.sql.fetchrow("select status, error_code from outlast_tasks")
    assert tuple(recorded) == ("failed", "not_queued")
    async with http.post("/tasks", json=submission, headers=key) as response:
        assert response.status == 202
    await worker_env.wait_for_outcome("completed")


async def test_task_queued_from_python_returns_its_result(worker_env, manager, source):
    async with manager:
        task_id = await manager.queue_file_processing(
            [f"{source.url}/files/photo.png", f"{source.url}/files/nothing.png?status=410"],
            uuid4(),
            uuid4(),
            {"max_concurrent": 1, "quality": 60, "format": "webp", "priority": "bulk"},
        )
        status = await manager.wait(task_id, timeout=WAIT_SECONDS)
    assert (status["status"], status["ready"], status["successful"]) == ("partial", True, False)
    assert status["result"]["successful_files"] == 1
    assert status["error"]
    assert await worker_env.sql.fetchval("select content_type from outlast_files") == "image/webp"
    assert worker_env.outcome_count("partial", "file_processing.bulk") == 1
    assert await manager.get_task_status(task_id) == status
    assert not await manager.cancel_task(task_id)


async def test_unknown_task_from_python_is_unknown(manager):
    assert (await manager.get_task_status(str(uuid4())))["status"] == "unknown"
    assert (await manager.get_task_status("nonsense"))["ready"] is False
    assert not await manager.cancel_task("nonsense")
    unknown = uuid4()
    assert not await manager.cancel_task(unknown)
    assert (await manager.get_task_status(unknown))["status"] == "unknown"
    with pytest.raises(UnknownTaskError):
        await manager.wait(uuid4(), timeout=5)


async def test_wait_timeout_leaves_the_task_running(manager, source):
    task_id = await manager.queue_file_processing([f"{source.url}/files/photo.png?slow=100000"], "u", "g")
    with pytest.raises(TimeoutError):
        await manager.wait(task_id, timeout=0.5)
    assert await manager.cancel_task(task_id)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nice": 1}, "task_options.nice: is not known"),
        ({"queue": "maintenance"}, "task_options.queue"),
        ({"priority": "bulk", "queue": "optimization"}, "give priority or queue, not both"),
    ],
)
async def test_invalid_task_options_are_named(manager, options, message):
    with pytest.raises(ValueError, match=message):
        await manager.queue_file_processing(["https://fal.media/a.png"], "u", "g", options)


async def test_worker_statistics_list_active_tasks(worker_env, manager, http, source):
    task_id = await manager.queue_file_processing([f"{source.url}/files/photo.png?slow=150000"], "u", "g")
    await worker_env.wait_until_running()
    await worker_env.worker.renew_leases()
    stats = await asyncio.to_thread(manager.get_worker_stats)
    assert [task["task_id"] for task in stats["active_tasks"]["test-worker"]] == [task_id]
    assert stats["workers"]["test-worker"]["concurrency"]["file_processing"] == 2
    async with http.get("/workers") as response:
        assert (await response.json())["active_tasks"].keys() == {"test-worker"}
    await worker_env.gateway.stop()
    with pytest.raises(DatabaseUnavailableError, match="SUPABASE_URL"):
        await asyncio.to_thread(manager.get_worker_stats)
    await worker_env.gateway.start()
    await worker_env.wait_for_outcome("completed")
