"""Every shape a message was ever published in. A release that adds a field adds a file to messages/, and changes none.

`v1-*` are jobs, `chore-v1-*` upkeep, `command-v1-*` what all workers are told at once.
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
CHORES = sorted(MESSAGES.glob("chore-v1-*.json"))
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
"""Those of one that it put off or buried: it did not tell the step yet."""


def shape(value, name=""):
    """The paths of all fields."""
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


async def stored(worker_env, sent):
    """Wait until the job has ended well and nothing is buried; check that its file is on record."""
    await worker_env.wait_for_outcome("completed", queue=sent["queue"])
    assert await worker_env.message_count("outlast.dead") == 0
    rows = await worker_env.sql.fetch("select task_id from outlast_files")
    assert [str(row["task_id"]) for row in rows] == [sent["task_id"]]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
async def test_a_job_of_any_version_ends_well(worker_env, source, path):
    sent = job(path, source)
    await publish(worker_env, "outlast", sent["queue"], sent, FIRST)
    await stored(worker_env, sent)


@pytest.mark.parametrize("headers", [{}, FAILED, FIRST | {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}])
async def test_a_job_with_any_versions_headers_ends_well(worker_env, source, headers):
    sent = job(JOBS[0], source)
    await publish(worker_env, "outlast", sent["queue"], sent, headers)
    await stored(worker_env, sent)


async def test_a_field_that_a_later_version_adds_is_no_reason_to_bury(worker_env, source):
    sent = job(JOBS[-1], source) | {"invented": {"later": 1}}
    sent["files"][0]["invented"] = True
    await publish(worker_env, "outlast", sent["queue"], sent, FIRST)
    await stored(worker_env, sent)


async def test_a_dead_letter_of_the_first_release_is_shown_and_replayed(worker_env, source):
    sent = job(MESSAGES / "v1-first.json", source)
    await publish(worker_env, "outlast.dead", sent["queue"], sent, FAILED)
    desk = DeadLetterService(worker_env.settings, "test", None)
    chosen = await desk.find(DeadLetterFilter.parse({"code": "source_unavailable"}))
    async with desk.batch("replay", chosen, rate=None, should_abort=lambda: False, progress=lambda *_: None) as batch:
        outcome = await batch.run()
    assert (outcome.matched, outcome.done) == (1, 1)
    await stored(worker_env, sent)


@pytest.mark.parametrize("path", CHORES, ids=lambda path: path.stem)
async def test_a_chore_of_any_version_is_done(worker_env, path):
    chore = json.loads(path.read_text())
    queue = "optimization" if chore["action"] == "optimize" else "maintenance"
    await publish(worker_env, "outlast", queue, chore, {}, "outlast.maintenance.v1")
    await worker_env.wait_for_outcome("completed", queue=queue)
    assert await worker_env.message_count("outlast.dead") == 0


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_of_any_version_is_understood(path):
    command = json.loads(path.read_text())
    assert json.loads(Command.model_validate_json(path.read_text()).model_dump_json(exclude_none=True)) == command


def test_todays_shapes_are_among_them():
    shapes = [shape(json.loads(path.read_text())) for path in JOBS]
    for path in JOBS:
        written = shape(json.loads(Job.model_validate_json(path.read_text()).model_dump_json()))
        assert written in shapes, "add today's shape to messages/"
    assert JOB_TYPE == "outlast.job.v1", "a new type: its first shape belongs into messages/"
    assert MAINTENANCE_TYPE == "outlast.maintenance.v1", "the same"
    assert {path.stem.removeprefix("chore-v1-") for path in CHORES} == set(Action.__args__)
    assert {json.loads(path.read_text())["do"] for path in COMMANDS} == set(
        Command.model_fields["do"].annotation.__args__
    )
