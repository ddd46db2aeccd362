"""What the doctor finds in a project that was harmed: the check, the finding, the remedy."""

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
    "another secret": ({"SUPABASE_WEBHOOK_SECRETS": OTHER}, "signing", "does not have", "outlast_set_webhook_secret"),
    "no project": ({"SUPABASE_URL": "http://127.0.0.1:1"}, "supabase", "cannot be reached", "mend SUPABASE_URL"),
    "no bucket": ({"STORAGE_BUCKET": "nowhere"}, "bucket", "there is no bucket 'nowhere'", "make it, private"),
    "other table": ({"GENERATIONS_TABLE": "renders"}, "generations", "'generations' there and 'renders' here", "mend"),
    "large files": ({"TEMP_DIR": "/proc/nowhere"}, "temp dir", "cannot be written to", "set TEMP_DIR"),
}


@pytest.mark.parametrize("case", SETTINGS)
async def test_a_wrong_setting(installation, case):
    environment, check, said, remedy = SETTINGS[case]
    environment = {name: value or () for name, value in environment.items()}
    found = await installation.run_checks(**environment)
    assert found[check][0] == "failed", found
    assert said in found[check][1]
    assert remedy in found[check][2]


DATABASE = {
    "a function is missing": (
        "drop function public.outlast_known(text, text, text)",
        ("functions", "failed", "outlast_known", "outlast init"),
    ),
    "migrations are old": (
        "update public.outlast_settings set value = '20251231000001' where key = 'version'",
        ("version", "failed", "this version needs", "outlast init"),
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
    "visitors may cancel": (
        "grant execute on function public.outlast_cancel(uuid) to anon",
        ("grants", "failed", "may execute functions of ours", "outlast init"),
    ),
    "a trigger is absent": (
        "drop trigger outlast_notify_insert on public.generations",
        ("triggers", "failed", "no outlast_notify triggers", "outlast_install()"),
    ),
    "a trigger is off": (
        "alter table public.generations disable trigger outlast_notify_update",
        ("triggers", "failed", "disabled", "outlast_install()"),
    ),
    "nothing signs": (
        "update public.outlast_settings set value = null where key = 'webhook_secret'",
        ("signing", "failed", "the trigger sends nothing", "outlast init"),
    ),
    "no address": (
        "update public.outlast_settings set value = null where key = 'webhook_url'",
        ("webhook url", "failed", "knows no address", "--receiver-url"),
    ),
    "an address without its path": (
        "update public.outlast_settings set value = 'https://x.example' where key = 'webhook_url'",
        ("webhook url", "failed", "/webhooks/supabase", "--receiver-url"),
    ),
    "nobody at the address": (
        "update public.outlast_settings set value = 'http://127.0.0.1:1/webhooks/supabase' where key = 'webhook_url'",
        ("receiver", "warning", "cannot be reached from here", "start `outlast receiver`"),
    ),
    "no pg_net": ("drop schema net cascade", ("webhook url", "failed", "pg_net is not there", "Extensions")),
    "no table": ("drop table public.generations", ("generations", "failed", "there is no table", "--table")),
    "a column has another name": (
        "alter table public.generations rename column output to result",
        ("generations", "failed", "output ('output')", "outlast init --help"),
    ),
    "media columns are gone": (
        "alter table public.generations drop column media",
        ("media columns", "failed", "lacks", "outlast_install()"),
    ),
    "no owner": (
        "alter table public.generations drop column user_id cascade",
        ("generations", "warning", "no column for user", "--help"),
    ),
    "realtime is deaf": (
        "alter publication supabase_realtime drop table public.outlast_tasks",
        ("realtime", "warning", "does not tell", "alter publication"),
    ),
    "no policy": (
        'drop policy "outlast: users read their own folder" on storage.objects',
        ("bucket policy", "warning", "no policy lets users", "outlast_install_storage()"),
    ),
    "no index": ("drop index public.outlast_unheard", ("sweep index", "warning", "no index", "outlast_install()")),
}


@pytest.mark.parametrize("case", DATABASE)
async def test_a_harmed_database(installation, case):
    harm, (check, state, said, remedy) = DATABASE[case]
    await installation.sql.execute(harm)
    found = await installation.run_checks()
    assert found[check][0] == state, found
    assert said in found[check][1]
    assert remedy in found[check][2]


async def test_a_key_of_another_role_and_a_wrong_one(installation):
    for key, said in (
        (installation.gateway.anon_key, "the role 'anon'"),
        ("sb_publishable_x", "publishable"),
        ("no-key-at-all", "is not accepted"),
    ):
        found = await installation.run_checks(SUPABASE_SERVICE_ROLE_KEY=key)
        assert (found["key"][0], found["bucket"][0], found["functions"][0]) == ("failed", "skipped", "skipped")
        assert said in found["key"][1]


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({"file_size_limit": "1MB"}, "failed", "takes 1 MiB, and MAX_FILE_SIZE_MB is 50"),
        ({"allowed_mime_types": ["image/*", "video/mp4"]}, "failed", "types we store"),
        ({"public": True}, "warning", "is public"),
    ],
)
async def test_a_bucket_that_does_not_fit(installation, change, state, said):
    await installation.storage("PUT", "/generations", change)
    found = await installation.run_checks()
    assert found["bucket"][0] == state
    assert said in found["bucket"][1]
