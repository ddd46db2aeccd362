"""A notice in the form of Slack's incoming webhooks: one short text."""

from typing import Any, Final

from worker.notices.message import Notice

MAX_LINES: Final = 10


def slack_body(notice: Notice) -> dict[str, Any]:
    """Return the JSON to send. Slack's control characters in texts of others are escaped."""
    data = notice.data
    if notice.type == "dead_letters.added":
        groups = data["groups"][:MAX_LINES]
        lines = [f"• {group['files']} x {group['code']} from {group['host'] or 'no host'}" for group in groups]
        title = f"{data['total']} new dead letters"
    else:
        title = f"Generation {data['generation_id']} is {notice.type.partition('.')[2]}: "
        title += f"{data['stored']} of {data['total']} files stored"
        lines = [f"• {file['code']} in {file['stage']}, {file['host'] or 'no host'}" for file in data["failed"]]
    if data.get("console_url"):
        lines.append(data["console_url"])
    return {"text": _escape("\n".join([title, *lines[: MAX_LINES + 1]]))}


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
