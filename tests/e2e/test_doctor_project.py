"""Each case breaks one thing in a project. Doctor must report it, with the remedy."""

import pytest

from tests.e2e.doctor_installation import project

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
    "a webhook url without its path": (
        "update public.outlast_settings set value = 'https://x.example' where key = 'webhook_url'",
        ("webhook url", "failed", "/webhooks/supabase", "--receiver-url"),
    ),
    "no receiver at the webhook url": (
        "update public.outlast_settings set value = 'http://127.0.0.1:1/webhooks/supabase' where key = 'webhook_url'",
        ("receiver", "warning", "cannot be reached from here", "start `outlast receiver`"),
    ),
    "no pg_net": ("drop schema net cascade", ("webhook url", "failed", "pg_net is missing", "Extensions")),
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
