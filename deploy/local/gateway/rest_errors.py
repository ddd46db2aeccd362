"""Error responses of PostgREST: a status and the body `{"code", "details", "hint", "message"}`."""

import json
from typing import Any, Final

import asyncpg
from aiohttp import web

# https://postgrest.org/en/v12/references/errors.html: full SQLSTATEs first, then their classes; all others are 400.
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
CLASS_STATUSES: Final = {
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
    """An error response of the REST API."""

    def __init__(
        self, status: int, code: str, message: str, *, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "details": details, "hint": hint, "message": message}

    def response(self) -> web.Response:
        """Return the response that PostgREST sends."""
        return json_response(self.body, self.status)


def from_postgres(error: asyncpg.PostgresError, role: str) -> RestError:
    """Translate an error of PostgreSQL as PostgREST does; a missing privilege is 401 for the role anon, else 403."""
    code = error.sqlstate or "XX000"
    message = error.message or str(error)
    if code == FORBIDDEN:
        status = 401 if role == "anon" else 403
    elif code.startswith("PT") and code[2:].isdigit():
        status = int(code[2:])  # PostgREST lets a function set the status with a SQLSTATE such as PT404
    else:
        status = STATUSES.get(code) or CLASS_STATUSES.get(code[:2], 400)
    return RestError(status, code, message, details=error.detail, hint=error.hint)


def database_down() -> RestError:
    """Return PostgREST's error for a database that cannot be reached."""
    return RestError(503, "PGRST000", "Database connection error. Retrying the connection.")


def parse_error(text: str) -> RestError:
    """Return PostgREST's error for a query string that it cannot parse."""
    return RestError(400, "PGRST100", f'"failed to parse ({text})"')


def json_response(value: Any, status: int = 200) -> web.Response:  # noqa: ANN401 - any JSON value
    """Return a response with compact JSON, as the real services send it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return web.Response(text=text, status=status, content_type="application/json", charset="utf-8")
