"""A test that stops a shared server fails by name, and no other test fails with it."""

import asyncio

import aiohttp
import pytest

from deploy.local.rabbitmq import RabbitMQ
from tests import servers
from tests.suite.test_interrupts import ROOT, RUN
from tests.time_limits import LONG_WAIT_SECONDS

STOPS = """
async def test_stops_what_all_share(postgres, database_url):
    await postgres.stop()

async def test_next(database_url):
    assert database_url.startswith("postgresql://")
"""


@pytest.mark.service
async def test_test_that_stops_the_shared_database_fails_and_the_next_one_passes(tmp_path):
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
    assert "this test stopped the shared Postgres" in output


async def test_a_stopped_broker_is_noticed_and_started_again(tmp_path, monkeypatch):
    broker, restarted = RabbitMQ(tmp_path), []
    broker._configure()  # as if it had run

    async def restart(server):
        restarted.append(server)

    monkeypatch.setattr(servers, "restart", restart)
    with pytest.raises(pytest.fail.Exception, match="this test stopped the shared RabbitMQ"):
        await servers.remove_or_fail(broker, lambda: broker.delete_vhost("any"))
    with pytest.raises(aiohttp.ClientError):  # here it is not started
        await servers.create_or_restart(broker, lambda: broker.create_vhost("any"))
    assert restarted == [broker, broker]
