"""Every shape a job was ever published in. A release that adds a field adds a file to messages/, and changes none."""

import json
from pathlib import Path

import aio_pika
import pytest

from schemas.jobs import JOB_TYPE, Job

MESSAGES = sorted((Path(__file__).parent / "messages").glob("*.json"))


def shape(value, name=""):
    """The paths of all fields."""
    if isinstance(value, dict):
        return {found for key, inner in value.items() for found in shape(inner, f"{name}.{key}")}
    if isinstance(value, list):
        return {found for inner in value for found in shape(inner, f"{name}[]")}
    return {name}


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
async def test_a_message_of_any_version_ends_well(bench, source, path):
    body = path.read_text().replace("SOURCE", source.url)
    sent = json.loads(body)
    exchange = await bench.channel.get_exchange("outlast")
    message = aio_pika.Message(
        body.encode(),
        content_type="application/json",
        type=JOB_TYPE,
        message_id=sent["task_id"],
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"x-outlast-attempt": 1, "x-outlast-deaths": 0, "x-outlast-replays": 0},
    )
    await exchange.publish(message, sent["queue"])
    await bench.outcome("completed", queue=sent["queue"])
    assert await bench.waiting("outlast.dead") == 0
    rows = await bench.sql.fetch("select task_id from outlast_files")
    assert [str(row["task_id"]) for row in rows] == [sent["task_id"]]


def test_todays_shape_is_among_them():
    newest = Job.model_validate_json((Path(__file__).parent / "messages" / "v1-provenance.json").read_text())
    written = shape(json.loads(newest.model_dump_json()))
    assert written in [shape(json.loads(path.read_text())) for path in MESSAGES], "add today's shape to messages/"
