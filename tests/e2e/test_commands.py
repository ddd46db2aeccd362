"""The commands as separate processes: their output and their exit codes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aio_pika
import aiohttp
import psutil
import pytest

from deploy.local.processes import StackError, free_port
from deploy.local.stack import Stack
from tests.output_lines import wait_for_line
from tests.time_limits import LONG_WAIT_SECONDS


async def start_outlast(*arguments, cwd, **environment):
    """Start `outlast` with a minimal environment."""
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}} | environment
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        cwd=cwd,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def outlast(*arguments, cwd, **environment):
    """Run `outlast`; return its exit code, standard output and standard error."""
    process = await start_outlast(*arguments, cwd=cwd, **environment)
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    return process.returncode, out.decode(), err.decode()


def stored_files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def running_processes(data_dir: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("OUTLAST_STACK") == str(data_dir.resolve()):
                found.append(str(process))
        except (psutil.Error, OSError):
            continue
    return found


async def test_demo_stores_every_file_despite_an_env_file_and_a_second_demo_stores_nothing_new(tmp_path, rabbitmq_url):
    (tmp_path / ".env").write_text(
        "GENERATIONS_TABLE=renders\nSTORAGE_BUCKET=other\nSUPABASE_URL=https://real.example\n"
    )
    code, out, err = await outlast("demo", "--json", cwd=tmp_path)
    assert code == 0, err
    output = json.loads(out)
    files = output["items"]
    assert output["total"] == len(files) >= 8
    assert output["missing"] == {}
    assert all(file["well"] for file in files)
    assert {file["bucket"] for file in files} == {"generations"}
    kinds = {file["content_type"].partition("/")[0] for file in files}
    assert kinds >= {"image", "video", "audio", "model"}
    first = stored_files(tmp_path / ".outlast" / "storage")
    assert len(first) == len({file["path"] for file in files})
    assert running_processes(tmp_path / ".outlast") == []

    code, out, err = await outlast("demo", cwd=tmp_path, RABBITMQ_URL=rabbitmq_url)
    assert code == 0, err
    assert "known" in out
    assert stored_files(tmp_path / ".outlast" / "storage") == first


async def test_up_prints_all_addresses_replaces_a_dead_worker_and_stops_without_leftovers(
    tmp_path, rabbitmq_url, run_samples
):
    run_samples.copy_to(tmp_path / ".outlast" / "samples")
    run = tmp_path / ".outlast" / "run"
    process = await start_outlast("up", "--json", "--workers", "2", cwd=tmp_path, RABBITMQ_URL=rabbitmq_url)
    output = json.loads(await asyncio.wait_for(process.stdout.readline(), LONG_WAIT_SECONDS))
    assert set(output) == {
        *("receiver_url", "console_url", "supabase_url", "service_role_key", "anon_key", "jwt_secret"),
        *("database_url", "rabbitmq_url", "webhook_secret", "api_token", "console_token", "source_url"),
        *("worker_metrics_urls", "data_dir"),
    }
    assert len(output["worker_metrics_urls"]) == 2
    assert len(list((tmp_path / ".outlast" / "log").glob("worker-*.log"))) == 2

    os.kill(json.loads((run / "worker-1.json").read_text())["pid"], signal.SIGKILL)
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while not (run / "worker-3.json").exists():
            await asyncio.sleep(0.1)

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # a second signal does not interrupt the clean-up
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert (process.returncode, out) == (0, b"")
    assert b"worker-1 ended with exit code -9; starting another worker" in err
    assert running_processes(tmp_path / ".outlast") == []


async def test_terminated_demo_leaves_no_process(tmp_path, rabbitmq_url, run_samples):
    run_samples.copy_to(tmp_path / ".outlast" / "samples")
    process = await start_outlast("demo", cwd=tmp_path, RABBITMQ_URL=rabbitmq_url)
    await wait_for_line(process.stderr, b"starting the receiver")
    process.send_signal(signal.SIGTERM)
    _, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert running_processes(tmp_path / ".outlast") == []


async def open_console_by_link(stack):
    """Open the link that `outlast up` prints, as a browser does."""
    url = f"{stack['console_url']}sign-in"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get(url, params={"token": stack["console_token"]}) as page:
            assert (page.status, page.url.path, page.url.query_string) == (200, "/console/", "")
        async with session.get(url, params={"token": "wrong"}) as page:
            assert page.status == 401


async def test_processes_of_a_killed_stack_are_ended_by_the_next_which_ends_when_its_receiver_dies(
    tmp_path, rabbitmq_url, run_samples
):
    run_samples.copy_to(tmp_path / ".outlast" / "samples")
    killed = await start_outlast("up", "--json", cwd=tmp_path)
    line = await asyncio.wait_for(killed.stdout.readline(), LONG_WAIT_SECONDS)
    assert await outlast("up", "--json", cwd=tmp_path) == (0, line.decode(), "")
    busy, _, err = await outlast("up", cwd=tmp_path)
    assert busy == 1
    assert "--data-dir" in err
    await open_console_by_link(json.loads(line))
    killed.kill()
    await killed.communicate()
    assert running_processes(tmp_path / ".outlast") != []

    following = await start_outlast("up", "--json", cwd=tmp_path, RABBITMQ_URL=rabbitmq_url)
    assert await asyncio.wait_for(following.stdout.readline(), LONG_WAIT_SECONDS)
    receiver = json.loads((tmp_path / ".outlast" / "run" / "receiver.json").read_text())
    os.kill(receiver["pid"], signal.SIGKILL)
    _, err = await asyncio.wait_for(following.communicate(), LONG_WAIT_SECONDS)
    assert following.returncode == 1
    assert b"left behind" in err
    said, quoted, _ = err.partition(b"outlast: receiver ended unexpectedly. The last lines of its log, ")
    assert quoted
    assert b"Traceback" not in said
    assert running_processes(tmp_path / ".outlast") == []


async def test_stack_without_rabbitmq_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.local.rabbitmq.SERVERS", ("/nowhere/rabbitmq-server",))
    with pytest.raises(StackError, match="make setup"):
        async with Stack(tmp_path):
            pass
    assert running_processes(tmp_path) == []


async def test_process_stores_to_a_folder_without_broker_and_database(stack, tmp_path):
    urls = [f"{stack.source.url}/files/{sample.name}" for sample in stack.samples[:3]]
    code, out, err = await outlast(
        "process", *urls, "--user", "me", "--out", "pictures", "--json", cwd=tmp_path, SOURCE_ALLOWLIST=stack.source.url
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["success"]
    assert sorted(stored_files(tmp_path / "pictures")) == sorted(file["path"] for file in result["processed_files"])


async def test_process_exit_code_tells_partial_from_total_failure(stack, tmp_path):
    good, bad = f"{stack.source.url}/files/{stack.samples[0].name}", f"{stack.source.url}/files/none.png"
    allow = {"SOURCE_ALLOWLIST": stack.source.url}
    assert (await outlast("process", good, bad, "--out", "p", cwd=tmp_path, **allow))[0] == 3
    code, out, _ = await outlast("process", bad, "--out", "p", cwd=tmp_path, **allow)
    assert code == 1
    assert "source_gone" in out


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (["receiver"], {}, 1, "SUPABASE_WEBHOOK_SECRETS"),
        (["receiver"], {"SUPABASE_WEBHOOK_SECRETS": "short"}, 1, "shorter than 16 characters"),
        (["worker"], {}, 1, "SUPABASE_URL"),
        (["worker"], {"MAX_ATTEMPTS": "none"}, 1, "MAX_ATTEMPTS"),
        (["process"], {}, 2, "urls"),
    ],
)
def test_wrong_call_names_the_setting_or_argument(call_outlast, arguments, environment, code, message):
    answered, _, err = call_outlast(*arguments, **environment)
    assert answered == code
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["process", *["https://fal.media/a"] * 11], 1, "MAX_BATCH_SIZE"),
        (["no-such-command"], 2, "no-such-command"),
    ],
)
async def test_wrong_call_of_a_process_names_the_setting_or_argument(tmp_path, arguments, code, message):
    answered, _, err = await outlast(*arguments, cwd=tmp_path)
    assert answered == code
    assert message in err
    assert "Traceback" not in err


async def test_receiver_exits_when_a_queue_has_other_arguments(rabbitmq_url, tmp_path):
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        await (await connection.channel()).declare_queue("outlast.dead", durable=True)
    code, _, err = await outlast(
        "receiver",
        cwd=tmp_path,
        RABBITMQ_URL=rabbitmq_url,
        SUPABASE_WEBHOOK_SECRETS="a-secret-of-the-test",
        RECEIVER_HOST="127.0.0.1",
        RECEIVER_PORT=str(free_port()),
    )
    assert code == 1
    assert "outlast.dead exists on the broker with other arguments" in err
