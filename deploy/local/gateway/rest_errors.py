"""PostgREST's way of refusing: a status and `{"code", "details", "hint", "message"}`."""

import json
from typing import Any, Final

import asyncpg
from aiohttp import web

# https://postgrest.org/en/v12/references/errors.html: whole codes first, then classes; everything else is 400.
STATUSES: Final = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
}
CLASSES: Final = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}
FORBIDDEN: Final = "42501"


class RestError(Exception):
    """A refusal by the REST API."""

    def __init__(
        self, status: int, code: str, message: str, *, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "details": details, "hint": hint, "message": message}

    def response(self) -> web.Response:
        """Return it as PostgREST sends it."""
        return json_answer(self.body, self.status)


def from_postgres(error: asyncpg.PostgresError, role: str) -> RestError:
    """Return PostgreSQL's own error as PostgREST would; who is not signed in gets 401 where others get 403."""
    code = error.sqlstate or "XX000"
    message = error.message or str(error)
    if code == FORBIDDEN:
        status = 401 if role == "anon" else 403
    elif code.startswith("PT") and code[2:].isdigit():
        status = int(code[2:])  # a function may choose its own status
    else:
        status = STATUSES.get(code) or CLASSES.get(code[:2], 400)
    return RestError(status, code, message, details=error.detail, hint=error.hint)


def database_down() -> RestError:
    """Return what PostgREST answers while it has no database."""
    return RestError(503, "PGRST000", "Database connection error. Retrying the connection.")


def unparsed(text: str) -> RestError:
    """Return what PostgREST answers to a query string it cannot read."""
    return RestError(400, "PGRST100", f'"failed to parse ({text})"')


def json_answer(value: Any, status: int = 200) -> web.Response:  # noqa: ANN401 - any JSON value
    """Return JSON without blanks, as the real services send it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return web.Response(text=text, status=status, content_type="application/json", charset="utf-8")
