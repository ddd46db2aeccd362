"""The command `outlast doctor`: exit codes, output, and no secrets in it."""

import asyncio
import json
import os

import pytest

from tests.e2e.doctor_installation import SECRET, project, with_receiver
from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS
from worker.doctor.run import CHECKS


@pytest.fixture
async def installation(database_url, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with project(database_url, source, tmp_path) as found:
        yield found


@pytest.fixture
async def running_installation(installation, rabbitmq_url):
    async with with_receiver(installation, rabbitmq_url) as found:
        yield found


async def run(running_installation, *arguments, **more):
    """Run the command; return exit code, standard output, standard error."""
    environment = {"PATH": os.environ["PATH"]} | running_installation.environment | more
    process = await Command.start("doctor", *arguments, env=environment)
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    return process.returncode, out.decode(), err.decode()


async def test_an_intact_installation_passes_every_check(running_installation):
    code, out, err = await run(running_installation)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) == len(CHECKS)
    assert [line for line in lines if not line.startswith("ok ")] == []


async def test_failures_are_printed_with_remedies_and_without_secrets(running_installation):
    await running_installation.sql.execute("drop function public.outlast_health()")
    broken = running_installation.rabbitmq_url.replace("127.0.0.1", "nowhere.invalid")
    code, out, err = await run(running_installation, "--json", RABBITMQ_URL=broken)
    report = json.loads(out)
    items = {item["check"]: item for item in report["items"]}
    assert (code, report["total"], report["failed"]) == (1, len(CHECKS), 2)
    assert items["broker"]["state"] == items["functions"]["state"] == "failed"
    assert "RABBITMQ_URL" in items["broker"]["remedy"]
    assert "outlast init" in items["functions"]["remedy"]
    assert items["triggers"] == {
        "check": "triggers",
        "state": "skipped",
        "detail": "needs the check `generations`",
        "remedy": "",
    }
    secrets = [running_installation.environment[name] for name in ("SUPABASE_SERVICE_ROLE_KEY", "API_TOKEN", "FAL_KEY")]
    secrets += [SECRET, running_installation.rabbitmq_url.partition("//")[2].partition("@")[0].partition(":")[2]]
    assert [secret for secret in secrets if secret in out + err] == []


async def test_invalid_settings_are_failures(running_installation):
    code, out, _ = await run(running_installation, MAX_ATTEMPTS="none", RABBITMQ_URL="http://user:hidden@host")
    assert code == 1
    assert "failed   settings:          MAX_ATTEMPTS: must be a whole number" in out
    assert "RABBITMQ_URL: must be amqp://" in out
    assert "hidden" not in out
    assert out.count("skipped ") == len(CHECKS)
