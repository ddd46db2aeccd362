"""Calls the SQL functions of a project over `/rest/v1/rpc/`."""

import json
import re
from functools import cache
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError

from handlers.database.http import ProjectApi
from handlers.errors import DatabaseUnavailableError, FileProcessingError, RowRejectedError
from handlers.json_text import clean_json
from handlers.network import failure_text

REMEDIES: Final = {
    "PGRST202": "; apply the migrations (outlast init prints them)",
    "42501": "; set SUPABASE_SERVICE_ROLE_KEY to the service role's key",
    "PGRST301": "; SUPABASE_SERVICE_ROLE_KEY is not accepted: set it to this project's key",
}
"""What to do about a refused call, by the error code of PostgREST or PostgreSQL."""
ROW_SQLSTATE: Final = re.compile(r"(?:2[23]|54)[0-9A-Z]{3}|P0001")
"""SQLSTATEs that concern the values of one call, not the database (PostgreSQL's documentation, "Error Codes")."""
JSON_HEADERS: Final = {"Content-Type": "application/json"}
T = TypeVar("T")


class RpcClient:
    """Calls SQL functions of one project."""

    def __init__(self, api: ProjectApi) -> None:
        self._api = api

    async def call(self, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Return the function's result; None for a function that returns nothing.

        Raises:
            DatabaseUnavailableError: there is no answer, or the call was refused.
            RowRejectedError: the database refuses these values, or a user's own trigger does.
        """
        return await self.send(function, to_json(arguments))

    async def send(self, function: str, body: bytes) -> Any:  # noqa: ANN401 - any JSON
        """Return the function's result and raise the errors of `call`. `body` is the arguments as JSON."""
        status, answer = await self.request(function, body)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal_error(f"{function}: {refusal_text(answer, status)}", answer)
        return answer

    async def request(self, function: str, body: bytes) -> tuple[int, Any]:
        """Call a function; return the HTTP status and the value of the JSON answer, also of a refusal.

        Raises:
            DatabaseUnavailableError: there is no answer, or the answer is not JSON. The call may have been executed.
        """
        try:
            async with self._api.request("POST", f"/rest/v1/rpc/{function}", JSON_HEADERS, data=body) as response:
                text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DatabaseUnavailableError(f"{function}: {failure_text(error)} at SUPABASE_URL") from error
        try:
            return response.status, None if response.status == HTTPStatus.NO_CONTENT else json.loads(text)
        except ValueError:
            raise DatabaseUnavailableError(
                f"{function}: SUPABASE_URL answered {response.status} ({response.content_type}), which is not JSON"
            ) from None


def refusal_error(message: str, answer: object) -> FileProcessingError:
    """Return the error for a refused call, by its SQLSTATE in the REST API's answer."""
    code = answer.get("code") if isinstance(answer, dict) else None
    if isinstance(code, str) and ROW_SQLSTATE.fullmatch(code):
        return RowRejectedError(message)
    return DatabaseUnavailableError(message)


def to_json(arguments: dict[str, Any]) -> bytes:
    """Return the arguments of a call as JSON. NUL and lone surrogates, which PostgreSQL cannot store, are replaced."""
    return clean_json(json.dumps(arguments)).encode()


def refusal_text(answer: object, status: int | None = None) -> str:
    """Return the code and the message of an error answer of the REST API, and the remedy if one is known."""
    fields = answer if isinstance(answer, dict) else {}
    code = fields.get("code") or (f"HTTP {status}" if status else "no code")
    return f"{code}: {str(fields.get('message') or 'no message')[:300]}{REMEDIES.get(str(code), '')}"


def parse_answer(function: str, kind: type[T], answer: object) -> T:
    """Return a function's result as a `kind`; raise DatabaseUnavailableError when the result has another form."""
    try:
        parsed: T = _adapter(kind).validate_python(answer)  # type: ignore[arg-type]  # a type is hashable
    except ValidationError as error:
        raise DatabaseUnavailableError(
            f"{function} answered in an unknown form; apply the migrations of this version (outlast init prints them)"
        ) from error
    return parsed


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - a type
    return TypeAdapter(kind)
