"""One log line with all fields for each attempt; every other line of a job carries its ids."""

from uuid import uuid4

from tests.captured_logs import capture_log

ALWAYS = {"task_id", "generation_id", "attempt", "user_id", "replays", "queue", "outcome", "seconds", "stages", "codes"}
COUNTED = {"files_stored", "files_deduplicated", "files_failed", "bytes_in", "bytes_out"}


def attempts(lines, job):
    return [line for line in lines.read("attempt ended") if line.get("task_id") == str(job.task_id)]


async def test_each_attempt_is_logged_as_one_line_with_all_fields(worker_env, source):
    base, once = f"{source.url}/files", uuid4()
    job = worker_env.job(
        f"{base}/photo.png", f"{base}/tone.wav?fail_first=1&at={once}", f"{base}/none.png?status=410&sig=topsecret"
    )
    with capture_log(worker_env.settings, log_level="DEBUG") as lines:
        await worker_env.send(job)
        await worker_env.wait_for_outcome("retried")
        await worker_env.wait_for_outcome("partial")
    first, second = attempts(lines, job)
    assert set(first) >= ALWAYS | COUNTED
    assert (first["attempt"], first["outcome"], first["level"]) == (1, "retried", "warning")
    assert [first[f"files_{how}"] for how in ("stored", "deduplicated", "failed")] == [1, 0, 2]
    assert first["codes"] == ["source_gone", "source_unavailable"]
    assert set(first["stages"]) == {"download", "detect", "deduplicate", "prepare", "upload"}
    assert sum(first["stages"].values()) > 0
    assert (first["bytes_in"], first["bytes_out"]) == await sizes(worker_env, job, 0)
    assert (second["bytes_in"], second["bytes_out"]) == await sizes(worker_env, job, 1)
    assert (second["attempt"], second["outcome"], second["level"]) == (2, "partial", "warning")
    assert [second[f"files_{how}"] for how in ("stored", "deduplicated", "failed")] == [1, 0, 0]
    whose = {"task_id": str(job.task_id), "generation_id": job.generation_id}
    about = [line for line in lines.read() if line["logger"].startswith("async_file_processor")]
    assert {line["level"] for line in about} == {"debug", "warning", "error"}
    assert all(whose.items() <= line.items() for line in about)
    assert "topsecret" not in lines.text


async def sizes(worker_env, job, position):
    row = await worker_env.sql.fetchrow(
        "select original_size, file_size from outlast_files where generation_id = $1 and position = $2",
        job.generation_id,
        position,
    )
    return tuple(row)


async def test_final_failure_is_logged_as_error_with_its_code(worker_env, source):
    job = worker_env.job(f"{source.url}/files/tone.wav?status=500")
    with capture_log(worker_env.settings) as lines:
        await worker_env.send(job, attempt=3)
        await worker_env.wait_for_outcome("failed")
        broken = worker_env.job(source="fal", generation_id=None, request_id=f"none-{uuid4()}")
        await worker_env.send(broken, attempt=3)
        await worker_env.wait_for_outcome("failed", 2)
    (line,) = attempts(lines, job)
    assert (line["level"], line["codes"], line["files_failed"]) == ("error", ["source_unavailable"], 1)
    (line,) = attempts(lines, broken)
    assert (line["level"], line["codes"]) == ("error", ["generation_not_found"])
    assert {line["level"] for line in lines.read("job failed")} == {"error"}


async def test_a_request_id_of_several_rows_becomes_a_dead_letter_that_says_so(worker_env, source):
    for _ in range(2):
        await worker_env.sql.execute(
            "insert into generations (id, user_id, request_id, status) values ($1, $2, 'shared', 'completed')",
            str(uuid4()),
            str(uuid4()),
        )
    job = worker_env.job(f"{source.url}/files/tone.mp3", source="fal", generation_id=None, request_id="shared")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("retried", 2)
    await worker_env.wait_for_outcome("failed")
    dead = await worker_env.take_message("outlast.dead")
    assert dead.headers["x-outlast-error-code"] == "generation_not_found"
    assert "several rows have the same request id" in dead.headers["x-outlast-error"]
    assert await worker_env.sql.fetchval("select count(*) from outlast_files") == 0
    assert await worker_env.sql.fetchval("select count(*) from generations where media_status is not null") == 0


async def test_log_line_has_the_generation_found_by_request_id(worker_env, source):
    generation = str(uuid4())
    await worker_env.sql.execute(
        "insert into generations (id, request_id, status) values ($1, 'r7', 'completed')", generation
    )
    job = worker_env.job(f"{source.url}/files/tone.mp3", source="fal", generation_id=None, request_id="r7")
    with capture_log(worker_env.settings) as lines:
        await worker_env.send(job)
        await worker_env.wait_for_outcome("completed")
    (line,) = attempts(lines, job)
    assert (line["generation_id"], line["level"]) == (generation, "info")
