"""A test that stops a shared server fails by name, and no other test fails with it."""

import asyncio

import pytest

from tests.suite.test_interrupts import ROOT, RUN
from tests.time_limits import LONG_WAIT_SECONDS

STOPS = """
async def test_stops_what_all_share(rabbitmq, rabbitmq_url):
    await rabbitmq.stop()

async def test_next(rabbitmq, rabbitmq_url):
    assert rabbitmq_url.startswith("amqp://")
"""
pytestmark = pytest.mark.service


async def test_test_that_stops_the_shared_broker_fails_and_the_next_one_passes(tmp_path):
    file = tmp_path / "test_two.py"
    file.write_text(STOPS)
    process = await asyncio.create_subprocess_exec(
        *RUN, f"--basetemp={tmp_path / 'base'}", str(file), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    output = out.decode()
    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert "2 passed, 1 error" in output
    assert "ERROR at teardown of test_stops_what_all_share" in output
    assert "this test stopped the shared RabbitMQ" in output
