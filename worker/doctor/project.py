"""The Supabase project: does it answer, is the key the service role's, are the clocks together?"""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import jwt

from worker.doctor.context import CheckContext
from worker.doctor.result import Failure

SKEW_SECONDS: Final = 60
"""Signatures are taken for 300 s either way (Standard Webhooks); most of that should be left for the way."""
SET_CLOCK: Final = "set this machine's clock by NTP: timedatectl set-ntp true; signatures count for 300 s only"
KEY_PAGE: Final = "copy the service_role (or sb_secret_...) key of this project into SUPABASE_SERVICE_ROLE_KEY"
NO_TABLE: Final = frozenset({"PGRST205", "42P01"})


async def supabase(site: CheckContext) -> str:
    """Ask for something small; whatever the answer is, it must be Supabase's."""
    url = site.settings.supabase_url
    if url is None:
        raise Failure("SUPABASE_URL is not set", "set it to https://<project>.supabase.co (Project settings, API)")
    remedy = "mend SUPABASE_URL: https://<project>.supabase.co, without a path; a paused project must be restored"
    site.asked_at = datetime.now(UTC)
    try:
        answer = await site.http.get("/rest/v1/outlast_settings", params={"select": "key", "limit": "1"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failure(f"{url} cannot be reached: {str(error) or type(error).__name__}", remedy) from error
    if not isinstance(body_of(answer), dict | list) or answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Failure(f"{url} answers {answer.status_code}, and not as a Supabase project does", remedy)
    site.answer = answer
    return f"{url} answers"


async def clock(site: CheckContext) -> str:
    """Compare with the project's clock."""
    told = "" if site.answer is None else site.answer.headers.get("Date", "")
    try:
        theirs = parsedate_to_datetime(told)
    except ValueError:
        return "the project does not tell its time"
    return compare(theirs, site.asked_at or datetime.now(UTC), "the project's")


def compare(theirs: datetime, ours: datetime, whose: str) -> str:
    """Say how far two clocks are apart; raise Failure when it is too far."""
    apart = abs((theirs - ours).total_seconds())
    if apart > SKEW_SECONDS:
        raise Failure(f"this machine's clock and {whose} are {apart:,.0f} s apart", SET_CLOCK)
    return f"{apart:.0f} s from {whose}"


async def key(site: CheckContext) -> str:
    """The service role's key goes past row-level security; no other does."""
    given = site.settings.supabase_service_role_key
    text = given.get_secret_value() if given else ""
    if text.startswith("sb_publishable_"):
        raise Failure("SUPABASE_SERVICE_ROLE_KEY is the publishable key", KEY_PAGE)
    role = _role(text)
    if role not in {None, "service_role"}:
        raise Failure(f"SUPABASE_SERVICE_ROLE_KEY is the key of the role {role!r}", KEY_PAGE)
    answer = site.answer
    if answer is None:
        raise RuntimeError("the check `supabase` comes first")
    code = error_code(answer)
    if answer.status_code == httpx.codes.UNAUTHORIZED or code.startswith("PGRST30"):
        raise Failure("SUPABASE_SERVICE_ROLE_KEY is not accepted: of another project, rotated or expired", KEY_PAGE)
    if code == "42501":
        raise Failure("SUPABASE_SERVICE_ROLE_KEY may not read our tables: it is not the service role's", KEY_PAGE)
    if answer.is_error and code not in NO_TABLE and answer.status_code != httpx.codes.NOT_FOUND:
        raise Failure(
            f"the REST API answers {answer.status_code} {code}: {message(answer)}", "look at the project's logs"
        )
    return "the service role's" if role else "accepted"


def body_of(answer: httpx.Response) -> object:
    """Return the JSON of an answer, None where it has none."""
    try:
        return answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None


def error_code(answer: httpx.Response) -> str:
    """Return the `code` of an error, empty where there is none."""
    body = body_of(answer)
    return str(body.get("code") or "") if isinstance(body, dict) and answer.is_error else ""


def message(answer: httpx.Response) -> str:
    """Return what an error says, at most 300 characters."""
    body = body_of(answer)
    said = body.get("message") if isinstance(body, dict) else None
    return str(said or answer.text)[:300]


def _role(token: str) -> str | None:
    """Return the role a JSON Web Token names; None for keys of the newer kind."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    return str(claims.get("role"))
