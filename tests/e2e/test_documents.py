"""The commands of the documents run: every `sh` block, except for those whose comment gives a reason."""

import asyncio
import os
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aio_pika
import pytest
from pydantic import SecretStr

from tests.broker.dead_letter_vhost import START, DeadLetterVhost
from tests.document_blocks import PAGES, ROOT, Block, blocks
from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS
from worker.settings import Settings

FAL_FILE = "https://fal.media/files/..."
UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
RUN = [page for page in PAGES if any(block.is_run for block in blocks(page))]


class Terminal:
    """Runs command lines one after the other in a folder, as a reader of the page would.

    `outlast` is forked from a process that has imported it; `sh` runs other programs. FAL's file is one of the sample
    source. `<id>` and `<task>` are the first id that an earlier command has printed. A comment can name the exit code.
    """

    def __init__(self, folder: Path, source_url: str, environment: dict[str, str]) -> None:
        self.folder, self.picture, self.environment, self.printed = (
            folder,
            f"{source_url}/files/photo.jpg",
            environment,
            "",
        )

    async def run(self, line: str) -> None:
        line = re.sub(r"<(?:id|task)>", self.printed, line.replace(FAL_FILE, self.picture))
        line, _, comment = line.partition(" # ")
        code, output = await self._outlast(line) if re.match(r"(\.venv/bin/)?outlast ", line) else await self._sh(line)
        expected = {0, *map(int, re.findall(r"exit code (\d+)", comment))}
        assert code in expected, f"$ {line}\n{output}"
        if not self.printed and (found := UUID.search(output)):
            self.printed = found[0]

    async def _outlast(self, line: str) -> tuple[int, str]:
        command, _, file = line.partition(" > ")
        arguments = shlex.split(command)[1:]
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            process = await Command.start(*arguments, env=self.environment, cwd=self.folder)
            out, err = (text.decode() for text in await process.communicate())
        if file:
            (self.folder / file).write_text(out)
        return await process.wait(), out + err

    async def _sh(self, line: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-euc", line),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(LONG_WAIT_SECONDS):
            return await process.wait(), (await process.stdout.read()).decode()


@pytest.fixture
async def terminal(stack, tmp_path):
    """A terminal with the settings of the stack."""
    endpoints = stack.endpoints
    (tmp_path / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    return Terminal(
        tmp_path,
        stack.source.url,
        {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "RECEIVER": endpoints.receiver_url,
            "API_TOKEN": endpoints.api_token,
            "CONSOLE_TOKEN": endpoints.console_token,
            "RABBITMQ_URL": endpoints.rabbitmq_url,
            "SUPABASE_URL": endpoints.supabase_url,
            "SUPABASE_SERVICE_ROLE_KEY": endpoints.service_role_key,
            "SUPABASE_WEBHOOK_SECRETS": endpoints.webhook_secret,
            "SOURCE_ALLOWLIST": stack.source.url,
            "FAL_JWKS_URL": f"{stack.source.url}/.well-known/jwks.json",
            "CODEC_PROCESSES": "1",
            "LOCAL_STACK": "true",
        },
    )


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
async def test_the_commands_of_a_page_run(page, terminal, stack):
    if page.name == "operations.md":
        await add_dead_letters(stack)
    for block in blocks(page):
        if block.is_run:
            for line in block.commands:
                await terminal.run(line)


async def add_dead_letters(stack):
    """Dead-letter two files that can be stored."""
    url, minutes = stack.endpoints.rabbitmq_url, (datetime.now(UTC) - START) / timedelta(minutes=1)
    async with await aio_pika.connect(url) as connection:
        settings, channel = Settings.load(rabbitmq_url=SecretStr(url)), await connection.channel(on_return_raises=True)
        vhost = DeadLetterVhost(url, settings, channel)
        for code in ("source_unavailable", "storage_rejected"):
            await vhost.dead_letter(vhost.job(f"{stack.source.url}/files/photo.jpg"), code, minutes=minutes)


def test_every_block_runs_or_says_why_not():
    opened = {page: page.read_text().count("```sh\n") for page in PAGES}
    assert opened == {page: len(blocks(page)) for page in PAGES}
    assert sum(block.is_run for page in PAGES for block in blocks(page)) >= 15
    assert [f"{page.name}: {fault}" for page in PAGES for block in blocks(page) if (fault := block.fault())] == []


def test_the_first_file_in_a_project_takes_six_commands():
    (first,) = [block for block in blocks(ROOT / "README.md") if "project of its own" in block.comment]
    assert len(first.commands) == 6
    assert re.search(r"^outlast try$", first.text, re.MULTILINE)


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("not run: needs time", "outlast demo"),
        ("not run: needs Docker", "outlast doctor  # a check"),
        ("not run: lines of .env", "outlast doctor"),
        ("run by tests/none.py", "promtool check config"),
        ("installs", "outlast doctor"),
    ],
)
def test_a_comment_without_a_reason_is_reported(comment, text):
    assert Block(comment, text).fault()
