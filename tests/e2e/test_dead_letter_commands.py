"""`outlast dead` as a separate process: its output and its exit codes."""

import asyncio
import json
import os
import pty
import signal
import sys

import pytest

from deploy.local.gateway import Gateway
from tests.broker.dead_letter_vhost import dead_letter_vhost
from tests.output_lines import wait_for_line
from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS


class DeadLetterCommand:
    """Runs `outlast dead ...` on a virtual host with dead letters."""

    def __init__(self, vhost, folder, **environment):
        self.vhost, self.folder = vhost, folder
        self.environment = {"PATH": os.environ["PATH"], "RABBITMQ_URL": vhost.url} | environment

    async def start(self, *arguments, **more):
        pipes = dict.fromkeys(("stdout", "stderr"), asyncio.subprocess.PIPE)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", "dead", *arguments),
            cwd=self.folder,
            env=self.environment,
            **{"stdin": asyncio.subprocess.DEVNULL} | pipes | more,
        )

    async def run(self, *arguments):
        """Return exit code, standard output and standard error."""
        process = await Command.start("dead", *arguments, env=self.environment, cwd=self.folder)
        out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
        return process.returncode, out.decode(), err.decode()

    async def json(self, *arguments):
        code, out, _ = await self.run(*arguments, "--json")
        return code, json.loads(out)


@pytest.fixture
async def shell(rabbitmq_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with dead_letter_vhost(rabbitmq_url) as vhost:
        yield DeadLetterCommand(vhost, tmp_path)


async def fill(vhost, count, code="corrupted"):
    for n in range(count):
        await vhost.dead_letter(vhost.job(f"https://v3.fal.media/{n}.png?token=hidden"), code, minutes=n)


async def test_list_groups_and_show_print_and_change_nothing(shell):
    await fill(shell.vhost, 3)
    await fill(shell.vhost, 1, "source_gone")
    code, output = await shell.json("list", "--code", "corrupted", "--limit", "2")
    assert (code, output["total"], len(output["items"])) == (0, 3, 2)
    code, out, err = await shell.run("list")
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert lines[0][:3] == ["id", "failed_at", "code"]
    assert len(lines) == 5
    assert "4 dead letters" in err
    code, output = await shell.json("groups")
    assert [(group["code"], group["count"]) for group in output["items"]] == [("corrupted", 3), ("source_gone", 1)]
    assert "v3.fal.media" in (await shell.run("groups"))[1]
    name = lines[1][0]
    code, out, _ = await shell.run("show", name)
    assert code == 0
    assert name in out
    assert "https://v3.fal.media/0.png\n" in out
    assert "hidden" not in out
    assert (await shell.json("show", name))[1]["files"][0]["position"] == 0
    code, out, err = await shell.run("show", "00000000-0000-0000-0000-000000000000")
    assert (code, out) == (1, "")
    assert "outlast dead list" in err
    assert await shell.vhost.count() == 4


async def test_replay_requires_confirmation_and_reports_counts(shell):
    await fill(shell.vhost, 3)
    await shell.vhost.dead_letter(shell.vhost.job("https://127.0.0.1/gone.png"), "source_gone")
    code, output = await shell.json("replay", "--dry-run")
    assert (code, output["matched"], output["replayed"], output["dry_run"]) == (0, 4, 0, True)
    code, out, err = await shell.run("replay")
    assert (code, out) == (2, "")
    assert "4 dead letters match" in err
    assert "--yes" in err
    assert await shell.vhost.count() == 4
    assert "1 dead letter matches\n" in (await shell.run("replay", "--dry-run", "--code", "source_gone"))[2]
    items = (await shell.json("list"))[1]["items"]
    one = next(item["id"] for item in items if item["code"] == "corrupted")
    assert (await shell.json("replay", one, "--yes"))[1] == {
        "matched": 1, "replayed": 1, "kept": [], "aborted": False, "dry_run": False
    }  # fmt: skip
    code, out, err = await shell.run("replay", "--yes", "--rate", "50/s")
    assert code == 3
    assert "kept: gone at 127.0.0.1; set FAL_KEY" in out
    assert "2 replayed, 1 kept" in out
    assert "3 of 3 replayed or kept" in err
    assert len(await shell.vhost.drain()) == 3
    assert (await shell.run("replay", "--code", "nothing"))[0] == 0


async def test_discard_archives_and_fails_without_the_archive(shell, database_url, tmp_path):
    await fill(shell.vhost, 3)
    code, out, err = await shell.run("discard", "--yes")
    assert (code, out) == (1, "")
    assert "SUPABASE_URL" in err
    assert "Traceback" not in err
    async with Gateway(database_url=database_url, storage_dir=tmp_path / "objects") as gateway:
        shell.environment |= {"SUPABASE_URL": gateway.url, "SUPABASE_SERVICE_ROLE_KEY": gateway.service_role_key}
        code, output = await shell.json("discard", "--limit", "2", "--yes")
        assert (code, output["discarded"]) == (0, 2)
    code, out, err = await shell.run("discard", "--yes")
    assert (code, out) == (1, "")
    assert "0 of 1 discarded" in err
    assert "outlast: outlast_archive" in err
    assert await shell.vhost.count() == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--since", "soon"),
        ("list", "--limit", "0"),
        ("groups", "--task", "7"),
        ("show", "7"),
        ("show",),
        ("replay", "7", "--yes"),
        ("replay", "--rate", "0", "--yes"),
        ("discard", "--until", "later", "--yes"),
        ("discard", "--nonsense"),
        ("bury",),
    ],
)
def test_invalid_arguments_are_a_usage_error(call_outlast, arguments):
    code, out, err = call_outlast("dead", *arguments, RABBITMQ_URL="amqp://127.0.0.1:1/")
    assert (code, out) == (2, "")
    assert "Traceback" not in err


async def test_unreachable_broker_is_reported_without_the_password(shell):
    shell.environment["RABBITMQ_URL"] = "amqp://guest:hidden@127.0.0.1:1/"
    code, out, err = await shell.run("list")
    assert (code, out) == (1, "")
    assert err.startswith("outlast: ")
    assert "hidden" not in err


async def test_ctrl_c_stops_a_replay_between_two_messages(shell):
    await fill(shell.vhost, 40)
    process = await shell.start("replay", "--yes", "--rate", "10", "--json")
    await wait_for_line(process.stderr, b"of 40 replayed")
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    output = json.loads(out)
    assert process.returncode == 3
    assert output["aborted"]
    assert b"Traceback" not in err
    assert output["replayed"] == len(await shell.vhost.drain()) == 40 - await shell.vhost.count()


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 3, 3)])
async def test_replay_on_a_terminal_asks_for_confirmation(shell, answer, code, left):
    await fill(shell.vhost, 3)
    ours, theirs = pty.openpty()
    process = await shell.start("replay", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer)
    output = b""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                output += await asyncio.to_thread(os.read, ours, 4096)
            except OSError:
                break
    os.close(ours)
    assert await process.wait() == code
    assert b"replay 3 dead letters? [y/N]" in output
    assert await shell.vhost.count() == left
