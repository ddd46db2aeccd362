"""Each case breaks one thing in a project. Doctor must report it, with the remedy."""

import re
from pathlib import Path

import pytest

from tests.e2e.doctor_installation import project

PAGE = Path(__file__).parents[2] / "deploy/docs/security.md"
EXAMPLE = re.search(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
OTHER = "whsec_c2VjcmV0IG9mIHRoZSB2YXVsdCwgMzIgYnl0ZXMh"


@pytest.fixture
async def installation(database_url, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with project(database_url, source, tmp_path) as found:
        yield found


SETTINGS = {
    "broker down": ({"RABBITMQ_URL": "amqp://u:p@127.0.0.1:1/"}, "broker", "cannot be reached", "start RabbitMQ"),
    "no secret": ({"SUPABASE_WEBHOOK_SECRETS": ""}, "webhook secret", "is not set", "outlast init"),
    "another secret": (
        {"SUPABASE_WEBHOOK_SECRETS": OTHER},
        "signing",
        "is not in SUPABASE_WEBHOOK_SECRETS",
        "outlast_set_webhook_secret",
    ),
    "no project": ({"SUPABASE_URL": "http://127.0.0.1:1"}, "supabase", "cannot be reached", "correct SUPABASE_URL"),
    "no bucket": ({"STORAGE_BUCKET": "nowhere"}, "bucket", "there is no bucket 'nowhere'", "create a private bucket"),
    "another table": (
        {"GENERATIONS_TABLE": "renders"},
        "generations",
        "'generations' there and 'renders' here",
        "correct",
    ),
    "temp dir not writable": ({"TEMP_DIR": "/proc/nowhere"}, "temp dir", "cannot be written to", "set TEMP_DIR"),
}


@pytest.mark.parametrize("case", SETTINGS)
async def test_a_wrong_setting_is_reported(installation, case):
    environment, check, problem, remedy = SETTINGS[case]
    environment = {name: value or () for name, value in environment.items()}
    found = await installation.run_checks(**environment)
    assert found[check][0] == "failed", found
    assert problem in found[check][1]
    assert remedy in found[check][2]


DATABASE = {
    "a function is missing": (
        "drop function public.outlast_known(text, text, text)",
        ("functions", "failed", "outlast_known", "outlast init"),
    ),
    "migrations are old": (
        "update public.outlast_settings set value = '20251231000001' where key = 'version'",
        ("version", "failed", "this program needs", "outlast init"),
    ),
    "migrations are newer": (
        "update public.outlast_settings set value = '20991231000001' where key = 'version'",
        ("version", "warning", "newer than this program", "upgrade"),
    ),
    "a table is missing": (
        "drop table public.outlast_workers",
        ("tables", "failed", "outlast_workers", "outlast init"),
    ),
    "a table is open": (
        "alter table public.outlast_settings disable row level security",
        ("tables", "failed", "row-level security is off on outlast_settings", "outlast init"),
    ),
    "anon may cancel": (
        "grant execute on function public.outlast_cancel(uuid) to anon",
        ("grants", "failed", "may execute our functions", "outlast init"),
    ),
    "a trigger is absent": (
        "drop trigger outlast_notify_insert on public.generations",
        ("triggers", "failed", "no outlast_notify triggers", "outlast_install()"),
    ),
    "a trigger is off": (
        "alter table public.generations disable trigger outlast_notify_update",
        ("triggers", "failed", "disabled", "outlast_install()"),
    ),
    "no signing secret": (
        "update public.outlast_settings set value = null where key = 'webhook_secret'",
        ("signing", "failed", "the trigger sends no webhooks", "outlast init"),
    ),
    "no webhook url": (
        "update public.outlast_settings set value = null where key = 'webhook_url'",
        ("webhook url", "failed", "has no webhook URL", "--receiver-url"),
    ),
    "no webhooks, on purpose": (
        "update public.outlast_settings set value = '' where key = 'webhook_url'",
        ("webhook url", "warning", "no webhooks are sent", "none needed"),
    ),
    "a webhook url without its path": (
        "update public.outlast_settings set value = 'https://x.example' where key = 'webhook_url'",
        ("webhook url", "failed", "/webhooks/supabase", "--receiver-url"),
    ),
    "no receiver at the webhook url": (
        "update public.outlast_settings set value = 'http://127.0.0.1:1/webhooks/supabase' where key = 'webhook_url'",
        ("receiver", "warning", "cannot be reached from here", "start `outlast receiver`"),
    ),
    "no pg_net": (
        "set role none; drop schema net cascade",
        ("webhook url", "failed", "pg_net is missing", "Extensions"),
    ),
    "no table": ("drop table public.generations", ("generations", "failed", "there is no table", "--table")),
    "a column has another name": (
        "alter table public.generations rename column output to result",
        ("generations", "failed", "output ('output')", "outlast init --help"),
    ),
    "media columns are gone": (
        "alter table public.generations drop column media",
        ("media columns", "failed", "has no column", "outlast_install()"),
    ),
    "no owner": (
        "alter table public.generations drop column user_id cascade",
        ("generations", "warning", "no column for user", "--help"),
    ),
    "realtime lacks a table": (
        "alter publication supabase_realtime drop table public.outlast_tasks",
        ("realtime", "warning", "does not publish", "alter publication"),
    ),
    "no policy": (
        'drop policy "outlast: users read their own folder" on storage.objects',
        ("bucket policy", "warning", "no policy lets users", "outlast_install_storage()"),
    ),
    "users can write media": (
        "drop trigger outlast_keep_media on public.generations",
        ("media trigger", "warning", "can write media", "outlast_install()"),
    ),
    "row-level security is off": (
        "alter table public.generations disable row level security",
        ("row security", "failed", "anon, authenticated may write it", "enable row level security"),
    ),
    "row-level security is off and users may read": (
        """alter table public.generations disable row level security;
        revoke insert, update on public.generations from anon, authenticated""",
        ("row security", "warning", "anon, authenticated may read it", "enable row level security"),
    ),
    "users may insert rows of others": (
        "create policy write on public.generations for insert to authenticated with check (true)",
        ("owner policies", "warning", "do not name user_id: write", "using (user_id ="),
    ),
    "users may give rows to others": (
        "create policy give on public.generations for update using (user_id = auth.uid()) with check (status = 'new')",
        ("owner policies", "warning", "do not name user_id: give", "using (user_id ="),
    ),
    "users may change rows of others": (
        """create policy take on public.generations for update to authenticated
        using (true) with check (user_id = auth.uid())""",
        ("owner policies", "warning", "do not name user_id: take", "using (user_id ="),
    ),
    "users may write what is stored": (
        "create policy own on public.generations to authenticated using (user_id = auth.uid())",
        ("protected columns", "warning", "output, request_id, status", "revoke insert, update"),
    ),
    "the completed value is no label of the enum": (
        (
            "create type public.state as enum ('pending', 'succeeded'); alter table public.generations"
            " alter status drop default, alter status type state using null"
        ),
        ("column types", "failed", "its values are: pending, succeeded", "GENERATIONS_COMPLETED_VALUE"),
    ),
    "the status is a boolean": (
        "alter table public.generations alter status drop default, alter status type boolean using null",
        (
            "column types",
            "failed",
            "'completed', because the column has the type boolean",
            "GENERATIONS_COMPLETED_VALUE",
        ),
    ),
    "the status is too short for the completed value": (
        "alter table public.generations alter status type varchar(8)",
        ("column types", "failed", "character varying(8)", "GENERATIONS_COMPLETED_VALUE"),
    ),
    "the creation time is a number": (
        "alter table public.generations alter created_at drop default, alter created_at type bigint using 0",
        ("column types", "failed", "created_at has the type bigint", "--created-column"),
    ),
    "an output cannot be read": (
        (
            "alter table public.generations alter output type json;"
            """insert into public.generations (status, output) values ('completed', '["a\\u0000b"]')"""
        ),
        ("column types", "warning", "1 of 1 new outputs cannot be read", "remove \\u0000"),
    ),
    "a trigger requires a signed-in user": (
        """insert into public.generations (status, output) values ('completed', '{}');
        create function public.need_user() returns trigger language plpgsql as $$
        begin
          if auth.uid() is null then raise exception 'sign in first'; end if;
          return new;
        end $$;
        create trigger need_user before update on public.generations for each row execute function need_user()""",
        ("row update", "failed", "SQLSTATE P0001: sign in first (PL/pgSQL function need_user()", "auth.uid()"),
    ),
    "a deferred trigger keeps completed rows of a further table": (
        """create table public.renders (like public.generations including all);
        insert into public.outlast_bindings (name, "table", owner_column, status_column, completed_values,
            output_columns, media_column, media_status_column)
          values ('renders', 'renders', 'user_id', 'status', '{completed}', '{output}', 'media', 'media_status');
        select public.outlast_install();
        insert into public.renders (status, output) values ('completed', '{}');
        create function public.keep() returns trigger language plpgsql as $$
        begin
          raise exception 'completed rows are final';
        end $$;
        create constraint trigger keep after update on public.renders deferrable initially deferred
          for each row when (old.status = 'completed') execute function keep()""",
        ("row update", "failed", "binding renders: row ", "trigger or constraint"),
    ),
    "no index": ("drop index public.outlast_unheard", ("sweep index", "warning", "no index", "outlast_install()")),
}


@pytest.mark.parametrize("case", DATABASE)
async def test_a_broken_database_is_reported(installation, case):
    statement, (check, state, problem, remedy) = DATABASE[case]
    await installation.sql.execute(statement)
    found = await installation.run_checks()
    assert found[check][0] == state, found
    assert problem in found[check][1]
    assert remedy in found[check][2]


SAFE_POLICIES = {
    "a restrictive policy limits to the owner": """
        create policy write on public.generations to authenticated using (true);
        create policy own on public.generations as restrictive to authenticated using (user_id = auth.uid());
    """,
    "users cannot write the protected columns": """
        create policy write on public.generations to authenticated using (true);
        revoke insert, update on public.generations from anon, authenticated;
        grant insert (prompt), update (prompt) on public.generations to authenticated;
    """,
    "the page's example": EXAMPLE,
}


@pytest.mark.parametrize("case", SAFE_POLICIES)
async def test_a_safe_policy_passes(installation, case):
    await installation.sql.execute(SAFE_POLICIES[case])
    found = await installation.run_checks()
    assert found["row security"][0] == found["owner policies"][0] == "ok", found


async def test_the_policy_that_the_security_page_recommends_passes_every_check_of_policies(installation):
    await installation.sql.execute(EXAMPLE)
    found = await installation.run_checks()
    checks = ("media trigger", "row security", "owner policies", "protected columns")
    assert {found[name][0] for name in checks} == {"ok"}, found


async def test_a_policy_that_names_another_column_is_reported(installation):
    await installation.sql.execute(
        "alter table public.generations add other_user_id uuid;"
        "create policy own on public.generations for insert to authenticated with check (other_user_id = auth.uid())"
    )
    assert (await installation.run_checks())["owner policies"][0] == "warning"


async def test_a_key_of_another_role_and_an_invalid_key_are_reported(installation):
    for key, problem in (
        (installation.gateway.anon_key, "the role 'anon'"),
        ("sb_publishable_x", "publishable"),
        ("no-key-at-all", "is not accepted"),
    ):
        found = await installation.run_checks(SUPABASE_SERVICE_ROLE_KEY=key)
        assert (found["key"][0], found["bucket"][0], found["functions"][0]) == ("failed", "skipped", "skipped")
        assert problem in found["key"][1]


@pytest.mark.parametrize(
    ("change", "state", "problem"),
    [
        ({"file_size_limit": "1MB"}, "failed", "accepts 1 MiB, but MAX_FILE_SIZE_MB is 50"),
        ({"allowed_mime_types": ["image/*", "video/mp4"]}, "failed", "types that are stored"),
        ({"public": True}, "warning", "is public"),
    ],
)
async def test_a_bucket_with_wrong_limits_or_public_access_is_reported(installation, change, state, problem):
    await installation.storage("PUT", "/generations", change)
    found = await installation.run_checks()
    assert found["bucket"][0] == state
    assert problem in found["bucket"][1]
