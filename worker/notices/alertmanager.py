"""The configuration of Alertmanager that `outlast init --alerts-to` writes: who is told of alerts, and how."""

import json
from typing import Final
from urllib.parse import unquote

from yarl import URL

from worker.notices.types import SLACK_HOSTS

CONFIG: Final = """\
# Alertmanager of deploy/compose.yml. `outlast init --alerts-to ADDRESS --write DIR` writes it for your address:
#   https://hooks.slack.com/services/...                     an incoming webhook of Slack
#   https://example.com/alerts                               any webhook
#   smtp://user:password@smtp.example.com:587/you@example.com   e-mail, with STARTTLS
route:
  receiver: operators
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 1d
  routes:
    - matchers: [severity="critical"]
      receiver: operators
      repeat_interval: 1h

inhibit_rules:
  # Without metrics, other alerts say nothing new.
  - source_matchers: [alertname="OutlastNotScraped"]
    target_matchers: [severity="warning"]

receivers:
  - name: operators
"""
NOBODY: Final = "    # Nobody is told yet: alerts are only shown at http://127.0.0.1:9093.\n"
TEXT: Final = (
    "{{ range .Alerts }}{{ .Annotations.summary }}: {{ .Annotations.description }} "
    "{{ .Annotations.runbook_url }}\n{{ end }}"
)
FORMS: Final = "https://hooks.slack.com/..., https://..., or smtp://user:password@host:587/you@example.com"


def alertmanager_config(address: str | None = None) -> str:
    """Return the configuration for an address; without one, alerts are only shown.

    Raises:
        ValueError: the address has none of the forms.
    """
    return CONFIG + (NOBODY if address is None else _receiver(address))


def _receiver(address: str) -> str:
    url = URL(address)
    if url.scheme == "https" and url.host in SLACK_HOSTS:
        title = "{{ .Status }}: {{ .CommonLabels.alertname }}"
        return _entry("slack_configs", api_url=address, title=title, text=TEXT, send_resolved=True)
    if url.scheme in {"http", "https"} and url.host:
        return _entry("webhook_configs", url=address)
    recipient = unquote(url.path.removeprefix("/"))
    if url.scheme == "smtp" and url.host and "@" in recipient:
        sender = url.user if url.user and "@" in url.user else recipient
        smarthost = f"{url.host}:{url.port or 587}"
        fields: dict[str, str | bool | None] = {"to": recipient, "from": sender, "smarthost": smarthost}
        if url.user:
            fields |= {"auth_username": url.user, "auth_password": url.password}
        fields["send_resolved"] = True
        return _entry("email_configs", **fields)
    raise ValueError(f"--alerts-to: {address!r} is not an address; use {FORMS}")


def _entry(kind: str, **fields: str | bool | None) -> str:
    """Return one entry; a JSON string is a valid YAML string."""
    lines = [f"        {name}: {json.dumps(value)}\n" for name, value in fields.items()]
    return f"    {kind}:\n      -{lines[0][7:]}" + "".join(lines[1:])
