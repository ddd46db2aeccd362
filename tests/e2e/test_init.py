"""`outlast init` as a separate process: what it prints, writes and refuses."""

import asyncio
import json
import os
import stat

import asyncpg
import pytest
from dotenv import dotenv_values

from deploy.local.postgres import BOOTSTRAP
from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS
from worker.cli.init_project import make_setup
from worker.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def init(folder, *arguments, **environment):
    process = await Command.start("init", *arguments, env={"PATH": os.environ["PATH"]} | environment, cwd=folder)
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    return process.returncode, out.decode(), err.decode()


async def test_init_prints_executable_sql_followed_by_the_env(tmp_path, postgres):
    code, out, _ = await init(
        tmp_path, "--table", "renders", "--status-column", "state", "--receiver-url", "https://x.example"
    )
    assert code == 0
    admin = await asyncpg.connect(postgres.url)
    await admin.execute("create database printed")
    await admin.close()
    connection = await asyncpg.connect(postgres.database_url("printed"))
    await connection.execute(BOOTSTRAP.read_text())
    await connection.execute("alter table generations rename to renders; alter table renders rename status to state")
    await connection.execute(out)
    health = json.loads(await connection.fetchval("select public.outlast_health()"))
    secret = await connection.fetchval("select value from public.outlast_settings where key = 'webhook_secret'")
    await connection.close()
    assert (health["generations"]["table"], health["triggers_current"], health["trigger_signed"]) == (
        "renders",
        True,
        True,
    )
    assert f"\nSUPABASE_WEBHOOK_SECRETS={secret}\n" in out
    assert "\nGENERATIONS_TABLE=renders\nGENERATIONS_STATUS_COLUMN=state\n" in out


async def test_init_writes_private_files_and_never_overwrites(tmp_path):
    code, out, _ = await init(tmp_path, "--write", "made", "--table", "it's", SUPABASE_URL="https://abc.supabase.co")
    names = ("outlast.sql", "outlast_secret.sql", ".env", "next_steps.md")
    assert (code, out) == (0, "".join(f"made/{name}\n" for name in names))
    files = [tmp_path / "made" / name for name in names]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 4
    before = [file.read_text() for file in files]
    code, _, err = await init(tmp_path, "--write", "made")
    assert code == 1
    assert "not overwritten" in err
    assert [file.read_text() for file in files] == before
    settings = Settings(_env_file=files[2])
    (secret,) = settings.supabase_webhook_secrets
    assert settings.generations_table == "it's"
    assert f"outlast_set_webhook_secret('{secret.get_secret_value()}')" in before[1]
    for hidden in (secret, settings.api_token, settings.console_token):
        assert hidden.get_secret_value() not in before[0] + before[3]
    assert "Do not commit `outlast_secret.sql`" in before[3]
    to_fill_in = dotenv_values(files[2])
    assert [to_fill_in[name] for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "RABBITMQ_URL")] == ["", "", ""]


async def test_init_keeps_existing_settings(tmp_path):
    (tmp_path / ".env").write_text(
        f"SUPABASE_WEBHOOK_SECRETS=shared,{SECRET}\nAPI_TOKEN=mine\nGENERATIONS_TABLE=renders\nFAL_KEY=hidden-key\n"
        "SUPABASE_URL=https://abc.supabase.co\nSUPABASE_SERVICE_ROLE_KEY=hidden-role\nRABBITMQ_URL=amqp://u:hidden-pass@h/\n"
        "RABBITMQ_PASSWORD=composed\n"
    )
    code, out, _ = await init(tmp_path, "--json")
    output = json.loads(out)
    assert code == 0
    assert f"outlast_set_webhook_secret('{SECRET}')" in output["sql"]
    assert f"SUPABASE_WEBHOOK_SECRETS={SECRET},shared\n" in output["env"]
    assert "API_TOKEN=mine\n" in output["env"]
    assert "RABBITMQ_PASSWORD=composed\n" in output["env"]
    assert "  values ('generations', 'public', 'renders'" in output["sql"]
    assert "hidden" not in out


async def test_written_sql_and_its_secret_are_applied_one_after_the_other_without_webhooks(tmp_path, postgres):
    code, _, err = await init(tmp_path, "--write", "made", "--sweep-only")
    assert (code, "supabase migration new" in err, "--sweep-only" in err) == (0, True, True)
    admin = await asyncpg.connect(postgres.url)
    await admin.execute("create database split")
    await admin.close()
    connection = await asyncpg.connect(postgres.database_url("split"))
    await connection.execute(BOOTSTRAP.read_text())
    notices = []
    connection.add_log_listener(lambda _, message: notices.append(message.message))
    await connection.execute((tmp_path / "made" / "outlast.sql").read_text())
    assert json.loads(await connection.fetchval("select public.outlast_health()"))["trigger_signed"] is False
    await connection.execute((tmp_path / "made" / "outlast_secret.sql").read_text())
    health = json.loads(await connection.fetchval("select public.outlast_health()"))
    notices.clear()
    await connection.execute("insert into generations (status, output) values ('completed', '{}')")
    queued = await connection.fetchval("select count(*) from net.http_request_queue")
    await connection.close()
    assert (health["trigger_signed"], health["webhook_url"], queued, notices) == (True, "", 0, [])


async def test_init_remove_prints_the_removal_sql(tmp_path):
    code, out, _ = await init(tmp_path, "--remove")
    assert (code, "drop trigger" in out, "drop table %s" in out) == (0, True, False)
    code, out, _ = await init(tmp_path, "--remove", "--binding", "clips")
    assert (code, out) == (0, "begin;\nselect public.outlast_unbind('clips');\ncommit;\n")
    code, out, _ = await init(tmp_path, "--remove", "--with-data")
    assert (code, "drop table %s" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--with-data"], "--remove"),
        (["--table", "n" * 64], "1 to 63"),
        (["--table", "a${HOME}"], "programs that"),
        (["--receiver-url", "outlast.example.com"], "--receiver-url"),
        (["--receiver-url", "https://x.example", "--sweep-only"], "--sweep-only"),
    ],
)
def test_wrong_init_call_names_the_problem(call_outlast, arguments, message):
    code, out, err = call_outlast("init", *arguments)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    "name", ["My Renders", "it's", 'a"b', "back\\slash", "line\nbreak", " x ", "#x", "$1 `id`", "生成"]
)
def test_column_name_survives_the_env_file(tmp_path, name):
    made = make_setup(Settings(_env_file=None, generations_table=name), None)
    (tmp_path / ".env").write_text(made.env)
    assert Settings(_env_file=tmp_path / ".env").generations_table == name
