"""What a task says after it has ended: one file in its error's line, all files in its progress, and its replays."""

from typing import Any
from uuid import uuid4

from tests.contracts.postgres.conftest import failed_file, new_job, stored_file


async def begin(db: Any, job: dict[str, Any]) -> Any:
    lease = uuid4()
    assert (await db.call("outlast_begin", p_job=job, p_lease=lease, p_worker="w1"))["state"] == "run"
    return lease


async def finish(db: Any, job: dict[str, Any], lease: Any, stored: list[str], failed: list[dict[str, Any]]) -> None:
    files = [stored_file(job["generation_id"], key, job) for key in stored]
    status = "completed" if not failed else "partial" if stored else "failed"
    arguments = {"p_task_id": job["task_id"], "p_lease": lease, "p_status": status, "p_files": files}
    assert (await db.call("outlast_finish", **arguments, p_failed=failed))["state"] == "recorded"


def failure(key: str, code: str, stage: str, url: str) -> dict[str, Any]:
    return failed_file(key) | {"code": code, "error": f"{code} of {key}", "stage": stage, "url": url}


async def test_an_attempt_with_two_failures_names_code_stage_and_host_of_the_same_file(db: Any) -> None:
    job = new_job(await db.generation(), ["a", "b"])
    failures = [
        failure("a", "source_gone", "download", "https://first.example/a.png"),
        failure("b", "corrupted", "prepare", "https://second.example/b.png"),
    ]
    await finish(db, job, await begin(db, job), [], failures)
    attempt = await db.row("select code, stage, host, error from public.outlast_attempts")
    assert attempt == {"code": "source_gone", "stage": "download", "host": "first.example", "error": "source_gone of a"}


async def test_an_attempt_that_storage_refused_names_no_host_of_the_source(db: Any) -> None:
    job = new_job(await db.generation(), ["a"])
    refused = failure("a", "storage_rejected", "upload", "https://first.example/a.png")
    await finish(db, job, await begin(db, job), [], [refused])
    attempt = await db.row("select code, stage, host from public.outlast_attempts")
    assert attempt == {"code": "storage_rejected", "stage": "upload", "host": None}


async def test_the_progress_of_an_ended_task_counts_all_of_its_files(db: Any) -> None:
    job = new_job(await db.generation(), ["a", "b", "c"])
    lease = await begin(db, job)
    early = {"task_id": job["task_id"], "lease": str(lease), "progress": {"completed": 1, "failed": 1, "total": 3}}
    await db.call("outlast_progress", p_items=[early])
    await finish(db, job, lease, ["a", "b"], [failed_file("c")])
    progress = await db.value("select progress from public.outlast_tasks where task_id = $1", job["task_id"])
    assert progress == {"completed": 2, "failed": 1, "total": 3, "downloaded": 0, "size": None}


async def test_each_replayed_dead_letter_is_counted_when_its_own_message_has_ended(db: Any) -> None:
    job, operation = new_job(await db.generation(), ["a", "b", "c"]), uuid4()
    await finish(db, job, await begin(db, job), ["a"], [failed_file("b"), failed_file("c")])
    letters = [
        {"id": str(uuid4()), "task_id": job["task_id"], "source_keys": ["b"]},
        {"id": str(uuid4()), "task_id": job["task_id"], "source_keys": ["c"]},
    ]
    await db.call("outlast_follow_replay", p_id=operation, p_letters=letters)

    async def results() -> Any:
        return (await db.call("outlast_replay_results", p_ids=[operation]))[str(operation)]

    assert await results() == {"stored": 0, "cancelled": 0, "waiting": 2, "failed": {}}
    await finish(db, job, await begin(db, job), ["b"], [])
    assert await results() == {"stored": 1, "cancelled": 0, "waiting": 1, "failed": {}}
    await finish(db, job, await begin(db, job), [], [failed_file("c") | {"code": "source_gone"}])
    assert await results() == {"stored": 1, "cancelled": 0, "waiting": 0, "failed": {"source_gone": 1}}
    assert await db.call("outlast_operations") == []


async def test_replayed_dead_letters_of_killed_and_cancelled_tasks_and_unpublished_ones_do_not_wait(db: Any) -> None:
    jobs, operation, letters = [new_job(await db.generation(), [key]) for key in "abc"], uuid4(), []
    for job in jobs:
        await db.call("outlast_enqueue", p_job=job)
        letters.append({"id": str(uuid4()), "task_id": job["task_id"], "source_keys": job["source_keys"]})
    await db.call("outlast_follow_replay", p_id=operation, p_letters=letters)
    await db.call("outlast_bury", p_letters=[{"task_id": jobs[0]["task_id"], "code": "worker_killed", "error": "x"}])
    await db.call("outlast_cancel", p_task_id=jobs[1]["task_id"])
    await db.call("outlast_unfollow_replay", p_id=operation, p_letter_ids=[letters[2]["id"]])
    assert (await db.call("outlast_replay_results", p_ids=[operation]))[str(operation)] == {
        "stored": 0,
        "cancelled": 1,
        "waiting": 0,
        "failed": {"worker_killed": 1},
    }


async def test_results_are_kept_when_nothing_waits_and_their_dead_letters_are_forgotten(db: Any) -> None:
    ids = [uuid4() for _ in range(3)]
    for number, (operation, outcome) in enumerate(zip(ids, ("stored", None, None), strict=True)):
        days = 8 * (number == 2)
        await db.run(
            "insert into public.outlast_operations (id, verb, by, state, ended_at) values ($1, 'replay', 'Ada', 'done',"
            " now() - make_interval(days => $2, hours => 2))",
            *(operation, days),
        )
        await db.run(
            "insert into public.outlast_replayed values ($1, gen_random_uuid(), gen_random_uuid(), '{}', $2)",
            *(operation, outcome),
        )
    before = await db.call("outlast_operations")
    await db.call("outlast_expire", p_keep_seconds=0)
    assert await db.value("select array_agg(operation_id) from public.outlast_replayed") == [ids[1]]
    after = {row["id"]: row["results"] for row in await db.call("outlast_operations")}
    assert after == {row["id"]: row["results"] for row in before}
    assert after[str(ids[0])] == {"stored": 1, "cancelled": 0, "waiting": 0, "failed": {}}


async def test_progress_that_arrives_after_the_end_of_an_operation_changes_nothing(db: Any) -> None:
    row = {"id": str(uuid4()), "verb": "replay", "by": "Ada", "matched": 10}
    running, done = row | {"state": "running", "done": 9}, row | {"state": "done", "done": 10}
    await db.call("outlast_operation", p_operation=running)
    for report in (done, running):
        await db.call("outlast_operation", p_operation=report)
        operation = await db.row("select state, done, ended_at is not null as ended from public.outlast_operations")
        assert operation == {"state": "done", "done": 10, "ended": True}


async def test_the_detail_of_an_operation_that_failed_is_recorded_after_its_end(db: Any) -> None:
    failed = {"id": str(uuid4()), "verb": "discard", "by": "Ada", "state": "failed"}
    for report in (failed, failed | {"detail": "ValueError; see the log of the receiver"}):
        await db.call("outlast_operation", p_operation=report)
    detail = await db.value("select detail from public.outlast_operations where id = $1", failed["id"])
    assert detail == "ValueError; see the log of the receiver"
