"""Checks of the Supabase project: whether it answers, the role of the key, and its clock."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import jwt

from worker.doctor.context import CheckContext
from worker.doctor.result import CheckFailure

MAX_SKEW_SECONDS: Final = 60
"""Signatures are valid for 300 s in both directions (Standard Webhooks). Delivery also takes time."""
CLOCK_REMEDY: Final = (
    "synchronize this machine's clock with NTP: timedatectl set-ntp true; signatures are valid for 300 s only"
)
KEY_REMEDY: Final = "copy the service_role (or sb_secret_...) key of this project into SUPABASE_SERVICE_ROLE_KEY"
TABLE_NOT_FOUND_CODES: Final = frozenset({"PGRST205", "42P01"})


async def supabase(context: CheckContext) -> str:
    """The URL must answer like a Supabase project."""
    url = context.settings.supabase_url
    if url is None:
        raise CheckFailure("SUPABASE_URL is not set", "set it to https://<project>.supabase.co (Project settings, API)")
    remedy = "correct SUPABASE_URL: https://<project>.supabase.co, without a path; restore the project if it is paused"
    context.requested_at = datetime.now(UTC)
    try:
        response = await context.supabase_http.get("/rest/v1/outlast_settings", params={"select": "key", "limit": "1"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CheckFailure(f"{url} cannot be reached: {str(error) or type(error).__name__}", remedy) from error
    if not isinstance(parse_body(response), dict | list) or response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise CheckFailure(f"{url} answers {response.status_code}, and not like a Supabase project", remedy)
    context.supabase_response = response
    return f"{url} answers"


async def clock(context: CheckContext) -> str:
    """This machine's clock must agree with the project's clock."""
    date = "" if context.supabase_response is None else context.supabase_response.headers.get("Date", "")
    try:
        project_time = parsedate_to_datetime(date)
    except ValueError:
        return "unknown: the project's response has no Date header"
    return compare_clocks(project_time, context.requested_at or datetime.now(UTC), "the project's clock")


def compare_clocks(theirs: datetime, ours: datetime, name: str) -> str:
    """Return the difference between two clocks. Raise CheckFailure if it is too large."""
    apart = abs((theirs - ours).total_seconds())
    if apart > MAX_SKEW_SECONDS:
        raise CheckFailure(f"this machine's clock and {name} are {apart:,.0f} s apart", CLOCK_REMEDY)
    return f"{apart:.0f} s from {name}"


async def key(context: CheckContext) -> str:
    """The key must be that of the service role, which bypasses row-level security."""
    secret = context.settings.supabase_service_role_key
    text = secret.get_secret_value() if secret else ""
    if text.startswith("sb_publishable_"):
        raise CheckFailure("SUPABASE_SERVICE_ROLE_KEY is the publishable key", KEY_REMEDY)
    role = _role(text)
    if role not in {None, "service_role"}:
        raise CheckFailure(f"SUPABASE_SERVICE_ROLE_KEY is the key of the role {role!r}", KEY_REMEDY)
    response = context.supabase_response
    if response is None:
        raise RuntimeError("the check `supabase` must run first")
    code = error_code(response)
    if response.status_code == httpx.codes.UNAUTHORIZED or code.startswith("PGRST30"):
        raise CheckFailure(
            "SUPABASE_SERVICE_ROLE_KEY is not accepted: it is of another project, was rotated, or has expired",
            KEY_REMEDY,
        )
    if code == "42501":
        raise CheckFailure(
            "SUPABASE_SERVICE_ROLE_KEY may not read our tables: it is not the key of the service role", KEY_REMEDY
        )
    if response.is_error and code not in TABLE_NOT_FOUND_CODES and response.status_code != httpx.codes.NOT_FOUND:
        raise CheckFailure(
            f"the REST API answers {response.status_code} {code}: {error_message(response)}",
            "check the logs of the project",
        )
    return "is the key of the service role" if role else "is accepted"


def parse_body(response: httpx.Response) -> object:
    """Return the JSON body of a response; None if it is not JSON."""
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None


def error_code(response: httpx.Response) -> str:
    """Return the `code` of an error response; empty if there is none."""
    body = parse_body(response)
    return str(body.get("code") or "") if isinstance(body, dict) and response.is_error else ""


def error_message(response: httpx.Response) -> str:
    """Return the message of an error response, at most 300 characters."""
    body = parse_body(response)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or response.text)[:300]


def _role(token: str) -> str | None:
    """Return the role in a JSON Web Token; None for keys that are not one (`sb_secret_...`)."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    return str(claims.get("role"))
