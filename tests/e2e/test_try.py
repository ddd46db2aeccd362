"""`outlast try` as a separate process: against the whole stack, and where it stops when a part is missing."""

import asyncio
import contextlib
import json
import os
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from tests.command_line import KEPT
from tests.listening import refused_port
from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS, WAIT_SECONDS
from worker.cli.trial import follow, run
from worker.cli.trial.steps import SentGeneration, StoppedError, TrialOptions
from worker.resources import Resources
from worker.settings import Settings

STEP_SECONDS = str(10 * LONG_WAIT_SECONDS)
"""A trial that waits for this long is ended by its test."""
REFUSED = {"error": "Couldn't connect"}
ANSWERS = "select max(id) from net._http_response"
CLIPS = """
create table public.clips (key bigint primary key generated always as identity, video_url text, poster_url text);
insert into public.outlast_bindings (name, "table", id_column, output_columns, media_column, media_status_column)
  values ('clips', 'clips', 'key', '{video_url,poster_url}', 'files', 'files_status');
select public.outlast_install();
"""


async def outlast(*arguments, cwd, **environment):
    """Run `outlast` with a minimal environment; return its exit code, standard output and standard error."""
    env = {name: value for name, value in os.environ.items() if name in KEPT} | environment
    process = await Command.start(*arguments, env=env, cwd=cwd)
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def environment(stack):
    """The settings of the stack, as an operator has them."""
    endpoints = stack.endpoints
    return {
        "SUPABASE_URL": endpoints.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": endpoints.service_role_key,
        "SUPABASE_WEBHOOK_SECRETS": endpoints.webhook_secret,
    }


@pytest.fixture
def nowhere():
    """A URL at which connections are refused."""
    with refused_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def sql(stack):
    connection = await asyncpg.connect(stack.endpoints.database_url)
    yield connection
    await connection.close()


async def counts(stack, sql):
    """What a trial may leave behind: rows, and objects on disk."""
    tables = ("generations", "outlast_tasks", "outlast_files", "outlast_objects")
    rows = [await sql.fetchval(f"select count(*) from {table}") for table in tables]  # noqa: S608 - fixed names
    marks = await sql.fetchval("select count(*) from outlast_settings where key like 'try:%'")
    return [*rows, marks, len([path for path in (stack.data_dir / "storage").rglob("*") if path.is_file()])]


@pytest.mark.parametrize(
    ("via", "steps"),
    [
        ("row", ["database", "send", "begin", "process", "read", "row", "remove"]),
        ("webhook", ["database", "send", "begin", "process", "read", "remove"]),
    ],
)
async def test_every_step_is_passed_and_nothing_is_left(stack, sql, environment, tmp_path, via, steps):
    before = await counts(stack, sql)
    code, out, err = await outlast("try", "--via", via, "--json", cwd=tmp_path, **environment)
    assert (code, list(json.loads(out)["steps"]), err) == (0, steps, "")
    assert await counts(stack, sql) == before


async def test_a_table_that_refuses_the_row_is_named_and_the_webhook_is_tried(sql, environment, tmp_path):
    await sql.execute("alter table generations add title text not null default ''")
    await sql.execute("alter table generations alter title drop default")
    try:
        code, out, err = await outlast("try", cwd=tmp_path, **environment)
        assert (code, "signed webhook" in out, "title" in err, "--set" in err) == (0, True, True, True)
        code, out, _ = await outlast("try", "--via", "row", "--json", cwd=tmp_path, **environment)
        assert (code, json.loads(out)["stopped_at"]) == (1, "send")
        code, out, _ = await outlast("try", "--set", "title=a try", "--json", cwd=tmp_path, **environment)
        assert (code, "row" in json.loads(out)["steps"]) == (0, True)
    finally:
        await sql.execute("alter table generations drop title")


async def test_it_names_the_step_at_which_it_stopped_and_leaves_nothing(stack, sql, environment, nowhere, tmp_path):
    async def stopped(*arguments, **changes):
        code, out, _ = await outlast("try", "--json", *arguments, cwd=tmp_path, **environment | changes)
        report = json.loads(out)
        assert (code, report["ok"]) == (1, False)
        return report["stopped_at"], f"{report['problem']} / {report['remedy']}"

    step, text = await stopped(SUPABASE_URL=nowhere)
    assert (step, "SUPABASE_URL" in text) == ("database", True)
    step, text = await stopped("--via", "webhook", "--receiver-url", nowhere)
    assert (step, "outlast receiver" in text) == ("send", True)
    step, text = await stopped("--via", "webhook", SUPABASE_WEBHOOK_SECRETS="whsec_" + "A" * 43 + "=")
    assert (step, "401" in text, "SUPABASE_WEBHOOK_SECRETS" in text) == ("send", True, True)
    step, text = await stopped("--via", "webhook", GENERATIONS_TABLE="renders")
    assert (step, "GENERATIONS_" in text) == ("send", True)
    before = await counts(stack, sql)
    async with unreachable_receiver(sql, nowhere):
        step, text = await stopped("--timeout", STEP_SECONDS)
        assert (step, "tunnel" in text) == ("webhook", True), text
        code, out, err = await outlast("try", "--timeout", STEP_SECONDS, cwd=tmp_path, **environment)
        assert (code, "tunnel" in out, "waiting for a worker" in err) == (1, True, True)
    assert await counts(stack, sql) == before


@contextlib.asynccontextmanager
async def unreachable_receiver(sql, nowhere):
    """The database sends its webhooks to an address that refuses connections."""
    url = await sql.fetchval("select value from outlast_settings where key = 'webhook_url'")
    set_url = "update outlast_settings set value = $1 where key = 'webhook_url'"
    await sql.execute(set_url, f"{nowhere}/webhooks/supabase")
    try:
        yield
    finally:
        await sql.execute(set_url, url)


async def test_a_webhook_that_has_failed_before_the_trial_looks_for_its_answer_is_seen(
    sql, environment, nowhere, monkeypatch, tmp_path
):
    send = run.Sender.send

    async def send_and_wait(sender, options):
        before = await sql.fetchval(ANSWERS)
        sent = await send(sender, options)
        async with asyncio.timeout(WAIT_SECONDS):
            while await sql.fetchval(ANSWERS) == before:
                await asyncio.sleep(0.01)
        return sent

    monkeypatch.setattr(run.Sender, "send", send_and_wait)
    monkeypatch.chdir(tmp_path)  # without a developer's .env
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    async with unreachable_receiver(sql, nowhere), Resources(settings) as resources:
        trial = run.Trial(settings, await resources.supabase(), TrialOptions(via="row", seconds=0), quiet=True)
        with pytest.raises(StoppedError, match="could not deliver the webhook"):
            await trial.run()


@pytest.mark.parametrize(
    "answers",
    [
        [[], [REFUSED, {"status_code": 202}], [REFUSED], [REFUSED]],
        [[{"error": "Timeout of 5000 ms reached. Total time: 5001 ms"}], [REFUSED], [REFUSED]],
    ],
)
async def test_the_refused_webhook_of_another_row_does_not_end_a_trial(monkeypatch, answers):
    task = {"task_id": str(uuid4()), "status": "running"}
    states = iter([*({"responses": responses} for responses in answers), {"tasks": [task]}])

    class Database:
        async def call(self, *_):
            return next(states)

    monkeypatch.setattr(follow, "REFUSED_SECONDS", 0.0)
    sent = SentGeneration("1", has_row=True)
    follower = follow.TrialFollower(Database(), sent, WAIT_SECONDS, datetime.now(UTC).isoformat(), print)
    assert task["task_id"] in await follower.wait_for_task()


async def test_the_table_of_another_binding_is_tried(stack, sql, environment, tmp_path):
    await sql.execute(CLIPS)
    try:
        before = await counts(stack, sql)
        code, out, err = await outlast(
            "try", "--binding", "clips", "--via", "row", "--json", cwd=tmp_path, **environment
        )
        assert (code, err) == (0, "")
        assert json.loads(out)["steps"]["row"] == "media_status is completed"
        assert (await counts(stack, sql), await sql.fetchval("select count(*) from clips")) == (before, 0)
    finally:
        await sql.execute("select public.outlast_unbind('clips'); drop table clips")
