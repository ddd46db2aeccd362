"""Messages of all releases. A release that adds a field adds a file to messages/ and does not change existing files.

`v1-*` are jobs, `maintenance-v1-*` maintenance jobs, `command-v1-*` commands that are broadcast to all workers.
"""

import json
from pathlib import Path

import aio_pika
import pytest

from schemas.dead_letters import DeadLetterFilter
from schemas.jobs import JOB_TYPE, Job
from schemas.periodic import MAINTENANCE_TYPE, Action
from worker.broker.broadcast import Command
from worker.dead_letters.service import DeadLetterService

MESSAGES = Path(__file__).parent / "messages"
JOBS = sorted(MESSAGES.glob("v1-*.json"))
MAINTENANCE_JOBS = sorted(MESSAGES.glob("maintenance-v1-*.json"))
COMMANDS = sorted(MESSAGES.glob("command-v1-*.json"))
FIRST = {
    "x-outlast-attempt": 1,
    "x-outlast-deaths": 0,
    "x-outlast-replays": 0,
    "x-outlast-first-seen": "2026-11-01T12:00:00+00:00",
}
"""The headers of a job published by the first release."""
FAILED = FIRST | {
    "x-outlast-attempt": 2,
    "x-outlast-error-code": "source_unavailable",
    "x-outlast-error": "the source answered 503",
    "x-outlast-failed-at": "2026-11-01T12:00:05+00:00",
}
"""The headers of a delayed job or a dead letter of the first release, which did not have the step."""


def shape(value, name=""):
    """Return the paths of all fields."""
    if isinstance(value, dict):
        return {found for key, inner in value.items() for found in shape(inner, f"{name}.{key}")}
    if isinstance(value, list):
        return {found for inner in value for found in shape(inner, f"{name}[]")}
    return {name}


def job(path, source):
    return json.loads(path.read_text().replace("SOURCE", source.url))


async def publish(worker_env, exchange, key, body, headers, message_type=JOB_TYPE):
    message = aio_pika.Message(
        json.dumps(body).encode(),
        content_type="application/json",
        type=message_type,
        message_id=body.get("task_id"),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers=headers,
    )
    await (await worker_env.channel.get_exchange(exchange)).publish(message, key)


async def completed_tasks(worker_env, sent):
    """Wait until the job is completed; return the ids of the tasks that stored files, without dead letters."""
    await worker_env.wait_for_outcome("completed", queue=sent["queue"])
    assert await worker_env.message_count("outlast.dead") == 0
    rows = await worker_env.sql.fetch("select task_id from outlast_files")
    return [str(row["task_id"]) for row in rows]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
async def test_a_job_of_any_release_is_completed(worker_env, source, path):
    sent = job(path, source)
    await publish(worker_env, "outlast", sent["queue"], sent, FIRST)
    assert await completed_tasks(worker_env, sent) == [sent["task_id"]]


@pytest.mark.parametrize("headers", [{}, FAILED, FIRST | {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}])
async def test_a_job_with_headers_of_any_release_is_completed(worker_env, source, headers):
    sent = job(JOBS[0], source)
    await publish(worker_env, "outlast", sent["queue"], sent, headers)
    assert await completed_tasks(worker_env, sent) == [sent["task_id"]]


async def test_a_job_with_an_unknown_field_is_completed(worker_env, source):
    sent = job(JOBS[-1], source) | {"unknown": {"later": 1}}
    sent["files"][0]["unknown"] = True
    await publish(worker_env, "outlast", sent["queue"], sent, FIRST)
    assert await completed_tasks(worker_env, sent) == [sent["task_id"]]


async def test_a_dead_letter_of_the_first_release_is_found_and_replayed(worker_env, source):
    sent = job(MESSAGES / "v1-first.json", source)
    await publish(worker_env, "outlast.dead", sent["queue"], sent, FAILED)
    service = DeadLetterService(worker_env.settings, "test", None)
    chosen = await service.find(DeadLetterFilter.parse({"code": "source_unavailable"}))
    async with service.batch(
        "replay", chosen, rate=None, should_abort=lambda: False, progress=lambda *_: None
    ) as batch:
        outcome = await batch.run()
    assert (outcome.matched, outcome.done) == (1, 1)
    assert await completed_tasks(worker_env, sent) == [sent["task_id"]]


@pytest.mark.parametrize("path", MAINTENANCE_JOBS, ids=lambda path: path.stem)
async def test_a_maintenance_job_of_any_release_is_completed(worker_env, path):
    maintenance_job = json.loads(path.read_text())
    queue = "optimization" if maintenance_job["action"] == "optimize" else "maintenance"
    await publish(worker_env, "outlast", queue, maintenance_job, {}, "outlast.maintenance.v1")
    await worker_env.wait_for_outcome("completed", queue=queue)
    assert await worker_env.message_count("outlast.dead") == 0


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_of_any_release_is_parsed(path):
    command = json.loads(path.read_text())
    assert json.loads(Command.model_validate_json(path.read_text()).model_dump_json(exclude_none=True)) == command


def test_the_current_fields_are_among_the_recorded_messages():
    shapes = [shape(json.loads(path.read_text())) for path in JOBS]
    for path in JOBS:
        written = shape(json.loads(Job.model_validate_json(path.read_text()).model_dump_json()))
        assert written in shapes, "add a message with the current fields to messages/"
    assert JOB_TYPE == "outlast.job.v1", "a new type: add its first message to messages/"
    assert MAINTENANCE_TYPE == "outlast.maintenance.v1", "a new type: add its first message to messages/"
    assert {path.stem.removeprefix("maintenance-v1-") for path in MAINTENANCE_JOBS} == set(Action.__args__)
    assert {json.loads(path.read_text())["do"] for path in COMMANDS} == set(
        Command.model_fields["do"].annotation.__args__
    )
