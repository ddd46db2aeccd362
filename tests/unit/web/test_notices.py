import base64
import json
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from handlers.settings import SettingsError
from worker.notices.message import Notice
from worker.notices.slack import slack_body
from worker.settings import Settings

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
SLACK = "https://hooks.slack.com/services/T0/B0/topsecret"


def test_slack_gets_one_text_with_the_causes_and_the_link():
    data = {
        "generation_id": "<g&1>",
        "total": 3,
        "stored": 1,
        "failed": [{"code": "source_gone", "stage": "download", "host": "v3.fal.media"}],
        "console_url": "https://outlast.example.com/console/generations/1",
    }
    text = slack_body(Notice(type="generation.partial", timestamp=NOW, data=data))["text"]
    assert text.splitlines() == [
        "Generation &lt;g&amp;1&gt; is partial: 1 of 3 files stored",
        "• source_gone in download, v3.fal.media",
        "https://outlast.example.com/console/generations/1",
    ]


def test_slack_gets_the_digest_of_dead_letters():
    groups = [{"code": "corrupted", "host": None, "files": 2}, {"code": "size_exceeded", "host": "a.b", "files": 1}]
    data = {"total": 3, "groups": groups}
    text = slack_body(Notice(type="dead_letters.added", timestamp=NOW, data=data))["text"]
    assert text.splitlines() == ["3 new dead letters", "• 2 x corrupted from no host", "• 1 x size_exceeded from a.b"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"notify_urls": "https://me.example.com/hook"}, "NOTIFY_SECRET"),
        ({"notify_urls": "http://me.example.com/hook", "notify_secret": SECRET}, "https://"),
        ({"notify_events": "generation.done"}, "generation.completed"),
    ],
)
def test_addresses_that_cannot_be_told_are_refused(changed, message):
    with pytest.raises(SettingsError, match=message):
        Settings.load(_env_file=None, **changed)


def test_slacks_address_is_a_secret_and_needs_no_signature():
    settings = Settings.load(_env_file=None, notify_urls=SLACK)
    assert settings.notify_addresses == (SLACK,)
    assert "topsecret" not in json.dumps(settings.for_log()) + repr(settings)
    assert isinstance(settings.notify_urls[0], SecretStr)
