"""Executes the installation on a single machine, line by line from deploy/README.md, and stores a generation."""

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from deploy.local.gateway import Gateway
from deploy.local.postgres import BOOTSTRAP
from deploy.local.processes import free_port
from tests.deploy.conftest import UNSHARE
from tests.time_limits import LONG_WAIT_SECONDS

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PARTS = ("schemas", "handlers", "worker", "deploy")

pytestmark = pytest.mark.machine


def readme_block(name):
    """Return the shell lines after a marker in the README."""
    text = (ROOT / "deploy/README.md").read_text()
    found = re.search(rf"<!-- {name} -->\s+```sh\n(.*?)```", text, re.DOTALL)
    return "\n".join(line.strip() for line in found[1].splitlines()) + "\n"


class Machine:
    """A shell in its own namespaces, which executes one step after the other."""

    def __init__(self, folder, checkout):
        self.folder, self.checkout = folder, checkout

    async def __aenter__(self):
        self.log = (self.folder / "shell.log").open("w")
        variables = {
            "BASE": sys.base_prefix,
            "PACKAGES": sysconfig.get_path("purelib"),
            "SYSTEMCTL": str(HERE / "systemctl.py"),
            "UNIT_LOGS": str(self.folder),
        }
        self.shell = await asyncio.create_subprocess_exec(
            *(*UNSHARE, "sh", "-eu"),
            cwd=self.checkout,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | variables,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self.log,
        )
        await self.do((HERE / "single_machine.sh").read_text())
        return self

    async def __aexit__(self, *exc):
        with contextlib.suppress(ProcessLookupError):
            self.shell.kill()
        await self.shell.wait()
        self.log.close()

    async def do(self, lines):
        """Run shell lines; fail with their output if a command fails."""
        self.shell.stdin.write(f"{lines}\necho step-completed\n".encode())
        output = []
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            async for line in self.shell.stdout:
                output.append(line.decode())
                if line == b"step-completed\n":
                    return
        pytest.fail("".join(output) + (self.folder / "shell.log").read_text() + self.logs())

    def logs(self):
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in self.folder.glob("*.service.log"))


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture
async def project(postgres, tmp_path):
    """A Supabase project without Outlast."""
    name = f"single{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"create database {name}")
    await admin.close()
    url = postgres.database_url(name)
    sql = await asyncpg.connect(url)
    await sql.execute(BOOTSTRAP.read_text())
    async with Gateway(database_url=url, storage_dir=tmp_path / "objects") as gateway:
        yield gateway, sql
    await sql.close()


def set_variables(text, **values):
    """Set the empty variables of a .env; add missing ones."""
    for name, value in values.items():
        text, count = re.subn(rf"^{name}=$", f"{name}={value}", text, flags=re.MULTILINE)
        text += "" if count else f"{name}={value}\n"
    return text


async def test_the_instructions_install_and_upgrade_outlast(tmp_path, checkout, project, rabbitmq_url, source):
    """Afterwards, an upgrade by the instructions replaces every process."""
    gateway, sql = project
    port = free_port()
    own = "https://outlast.example.com", f"http://127.0.0.1:{port}"
    logs = tmp_path / "logs"
    logs.mkdir()
    async with Machine(logs, checkout) as machine:
        await machine.do(readme_block("install"))
        await machine.do(readme_block("init").replace(*own))
        for name in ("outlast.sql", "outlast_secret.sql"):
            await sql.execute((checkout / "setup" / name).read_text())
        env = checkout / "setup/.env"
        env.write_text(
            set_variables(
                env.read_text(),
                SUPABASE_URL=gateway.url,
                SUPABASE_SERVICE_ROLE_KEY=gateway.service_role_key,
                RABBITMQ_URL=rabbitmq_url,
                SOURCE_ALLOWLIST=source.url,
                FAL_JWKS_URL=f"{source.url}/.well-known/jwks.json",
                RECEIVER_HOST="127.0.0.1",
                RECEIVER_PORT=port,
                CODEC_PROCESSES=1,
            )
        )
        await machine.do(readme_block("start"))
        row = await complete_generation(sql, port, source)
        (found,) = json.loads(row["media"])
        content = (tmp_path / "objects" / found["bucket"] / found["path"]).read_bytes()
        assert (row["media_status"], found["content_type"]) == ("completed", "image/jpeg")
        assert hashlib.sha256(content).hexdigest() == found["sha256"]
        workers = (logs / "outlast-worker@1.service.log").read_text()
        assert "failed " not in workers.partition("{")[0], "the doctor's report"
        await machine.do('test "$(stat -c %a /etc/outlast/outlast.env)" = 600')
        await machine.do('test "$(stat -c %U /var/cache/outlast/worker-1)" = outlast')
        await machine.do('test "$(ps -C outlast -o user= | sort -u)" = outlast')

        env_before, settings = env.read_bytes(), await sql.fetch("select * from outlast_settings where key ~ 'webhook'")
        await machine.do(readme_block("upgrade").replace(*own))
        await sql.execute((checkout / "setup/outlast.sql").read_text())
        assert env.read_bytes() == env_before
        assert await sql.fetch("select * from outlast_settings where key ~ 'webhook'") == settings
        await machine.do(readme_block("restart"))
        row = await complete_generation(sql, port, source)
        assert row["media_status"] == "completed"
        await machine.do('test "$(pgrep --full --count "/opt/outlast-0.1.0/")" = 0')
        await machine.do(
            'test "$(pgrep --full --count "/opt/outlast-0.2.0/bin/python3? /opt/outlast/bin/outlast")" -ge 3'
        )
    assert not Path("/opt/outlast").exists()


async def complete_generation(sql, port, source):
    """Complete a generation when the receiver is ready; return its row when its media_status is final."""
    async with asyncio.timeout(LONG_WAIT_SECONDS), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        break
            await asyncio.sleep(0.1)
        generation = uuid4()
        await sql.execute(
            "insert into generations (id, user_id, status) values ($1, $2, 'processing')", generation, uuid4()
        )
        await sql.execute(
            "update generations set status = 'completed', output = $2 where id = $1",
            *(generation, json.dumps({"image": {"url": source.file_url("photo.png")}})),
        )
        while True:
            row = await sql.fetchrow("select media, media_status from generations where id = $1", generation)
            if row["media_status"] in {"completed", "partial", "failed"}:
                return row
            await asyncio.sleep(0.1)
