import json

import pytest
from pydantic import SecretStr

from worker.observability.redact import MASK, Redactor, secrets_of
from worker.settings import Settings

SECRETS = ["a shared secret", "whsec_c2lnbmluZyBrZXkgb2YgMjQgYnl0ZXM=", 'quo"ted\\s?cret', "key-id:fal-key-part"]
SIGNED = "https://storage.googleapis.com/falserverless/a.png"


@pytest.fixture
def redact():
    return Redactor(SECRETS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{SIGNED}?X-Goog-Signature=topsecret&x=%20'y'#f", SIGNED),
        (f"({SIGNED}?sig=topsecret)", f"({SIGNED}"),
        ("GET /object/sign/a?token=topsecret HTTP/1.1", "GET /object/sign/a HTTP/1.1"),
        ("amqp://user:topsecret@rabbit:5672/vhost", "amqp://rabbit:5672/vhost"),
        ("data:image/png;base64,topsecret== next", "data:image/png;base64,... next"),
        ("data:image/png;sha256=abc", "data:image/png;sha256=abc"),
        ("a question? yes; another?", "a question? yes; another?"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_urls_are_shown_without_query_user_and_inline_content(redact, text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize("secret", SECRETS)
def test_known_secrets_are_masked_in_every_encoding(redact, secret):
    for text in (secret, f"Bearer {secret}", f"x={secret.removeprefix('whsec_')}", json.dumps({"value": secret})):
        redacted = redact(text)
        assert MASK in redacted
        assert secret not in redacted
        assert json.dumps(secret)[1:-1] not in redacted
    assert "fal-key-part" not in redact("the second half: fal-key-part")


@pytest.mark.parametrize(
    "value",
    [
        f'a "{SIGNED}?sig=topsecret" b',
        f"{SIGNED}?sig=\\topsecret",
        f"{SIGNED}?sig=äöü&token=topsecret",
        "\nx?y=topsecret\n\t",
        'data:a/b,topsecret"x',
        "see 'data:a/b;base64,topsecret'\n",
        'at "https://u:topsecret@x/" there',
    ],
)
def test_redacted_json_is_still_valid_json(redact, value):
    redacted = json.loads(redact(json.dumps({"url": value, "more": {"code": "gone", "n": 1}})))
    assert redacted["more"] == {"code": "gone", "n": 1}
    assert "topsecret" not in redacted["url"]


def test_every_secret_setting_is_redacted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {}
    for name, field in Settings.model_fields.items():
        if "Secret" in repr(field.annotation):
            value = f"secret-of-{name}"
            is_many = "tuple" in repr(field.annotation)
            given[name] = (SecretStr(value),) if is_many else SecretStr(value)
    given["notify_urls"] = (SecretStr("https://hooks.slack.com/services/T0/secret-of-notify_urls"),)
    given["rabbitmq_url"] = SecretStr("amqp://u:secret-of-rabbitmq_url@h/")
    assert len(given) >= 5
    found = secrets_of(Settings.load(supabase_url="https://a.supabase.co", **given))
    assert {f"secret-of-{name}" for name in given} <= set(found)
