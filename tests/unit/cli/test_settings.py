import pytest

from handlers.settings import SettingsError
from worker.settings import Settings


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    """Remove the settings of the environment and of a .env file."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults_are_valid():
    settings = Settings.load()
    assert settings.max_file_bytes == 50 * 1024 * 1024
    assert settings.retry_delays == (5, 30, 120, 600, 3600)
    assert "*.fal.media" in settings.source_allowlist


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MAX_FILE_SIZE_MB", "-3", "must be more than 0"),
        ("WORKER_CONCURRENCY", "many", "must be a whole number (it is 'many')"),
        ("RETRY_DELAYS", "30,5", "ascending"),
        ("IMAGE_FORMAT", "bmp", "'auto', 'keep', 'jpeg', 'webp' or 'avif'"),
        ("SOURCE_ALLOWLIST", "a.*.com", "no usable host"),
        ("IMMUTABLE_SOURCES", "a.*.com", "IMMUTABLE_SOURCES: 'a.*.com' has no usable host"),
        ("SUPABASE_URL", "abc.supabase.co", "must be a URL that begins with http:// or https://"),
        ("RABBITMQ_URL", "not-a-url", "amqp://"),
        ("RABBITMQ_URL", "http://topsecret@host/", "amqp://"),
        ("RABBITMQ_URL", "amqp://u:topsecret@h:port/", "amqp://"),
        ("SUPABASE_WEBHOOK_SECRETS", "whsec_topsecret", "24 to 64"),
        ("SUPABASE_WEBHOOK_SECRETS", "plain whsec_...", "24 to 64"),
    ],
)
def test_an_error_names_the_variable_the_problem_and_the_remedy(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert f"{variable}: " in str(refused.value)
    assert message in str(refused.value)
    assert "Remedy" in str(refused.value)
    assert "in the environment" in str(refused.value)
    assert "Value error" not in str(refused.value)
    assert "topsecret" not in str(refused.value)


def test_an_error_about_several_settings_names_them_and_no_library(tmp_path):
    (tmp_path / ".env").write_text("ORPHAN_GRACE_HOURS=0.1\n")
    with pytest.raises(SettingsError, match=r"invalid:\n  ORPHAN_GRACE_HOURS: must be at least twice"):
        Settings.load()
    (tmp_path / ".env").write_text("IMAGE_QUALITY=200\n")
    with pytest.raises(SettingsError, match=r"must be at most 100 .*correct or remove it in \.env.* IMAGE_QUALITY=85"):
        Settings.load()


def test_only_settings_that_differ_from_their_defaults_are_logged(monkeypatch):
    monkeypatch.setenv("IMAGE_QUALITY", "61")
    logged = Settings.load().for_log()
    assert logged["image_quality"] == 61
    assert len(logged) < 8


def test_all_errors_are_reported_together(monkeypatch):
    monkeypatch.setenv("MAX_ATTEMPTS", "0")
    monkeypatch.setenv("METRICS_PORT", "x")
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert "MAX_ATTEMPTS" in str(refused.value)
    assert "METRICS_PORT" in str(refused.value)


def test_a_supabase_url_without_a_key_is_refused(monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "https://abc.supabase.co")
    with pytest.raises(SettingsError, match="set both"):
        Settings.load()


def test_secrets_are_masked_when_settings_are_shown(monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "https://abc.supabase.co")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_topsecret")
    monkeypatch.setenv("SUPABASE_WEBHOOK_SECRETS", "topsecret1 topsecret2")
    monkeypatch.setenv("RABBITMQ_URL", "amqp://me:topsecret@host/")
    settings = Settings.load()
    assert settings.supabase_webhook_secrets[1].get_secret_value() == "topsecret2"
    assert "topsecret" not in str(settings.for_log()) + repr(settings)


def test_an_invalid_secret_is_not_repeated_in_the_error(monkeypatch):
    monkeypatch.setenv("SUPABASE_WEBHOOK_SECRETS", "topsecret")
    monkeypatch.setenv("MAX_ATTEMPTS", "0")
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert "topsecret" not in str(refused.value)


def test_a_receiver_without_webhook_secrets_is_refused():
    with pytest.raises(SettingsError, match="SUPABASE_WEBHOOK_SECRETS"):
        Settings.load().for_receiver()


@pytest.mark.parametrize("name", ["API_TOKEN", "CONSOLE_TOKEN", "CONSOLE_READ_TOKEN", "SUPABASE_WEBHOOK_SECRETS"])
def test_a_receiver_with_a_short_token_is_refused_outside_of_the_local_stack(monkeypatch, name):
    monkeypatch.setenv("SUPABASE_WEBHOOK_SECRETS", "sixteen-letters!")
    assert Settings.load().for_receiver()
    monkeypatch.setenv(name, "topsecret-letter")
    assert Settings.load().for_receiver()
    monkeypatch.setenv(name, "topsecret-lette")
    with pytest.raises(SettingsError, match=f"{name}: shorter than 16 characters.*Remedy") as refused:
        Settings.load().for_receiver()
    assert "topsecret" not in str(refused.value)
    monkeypatch.setenv("LOCAL_STACK", "true")
    monkeypatch.setenv("RECEIVER_HOST", "127.0.0.1")
    assert Settings.load().for_receiver()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "receiver", "::"])
def test_a_local_stack_that_other_machines_can_reach_is_refused(monkeypatch, host):
    monkeypatch.setenv("SUPABASE_WEBHOOK_SECRETS", "sixteen-letters!")
    monkeypatch.setenv("LOCAL_STACK", "true")
    monkeypatch.setenv("RECEIVER_HOST", host)
    with pytest.raises(SettingsError, match="LOCAL_STACK"):
        Settings.load().for_receiver()


def test_a_worker_without_supabase_is_refused():
    with pytest.raises(SettingsError, match="SUPABASE_URL"):
        Settings.load().for_worker()


def test_a_worker_with_an_unwritable_temp_dir_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SUPABASE_URL", "https://abc.supabase.co")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "k")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEMP_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(SettingsError, match="TEMP_DIR"):
        Settings.load().for_worker()
    monkeypatch.setenv("TEMP_DIR", str(tmp_path / "made"))
    assert Settings.load().for_worker().temp_dir.is_dir()


def test_the_env_file_is_read(tmp_path):
    (tmp_path / ".env").write_text("IMAGE_QUALITY=61\nMAX_FILE_SIZE_MB=\n")
    settings = Settings.load()
    assert settings.profile.key == "auto-q61-strip"
    assert settings.max_file_size_mb == 50
