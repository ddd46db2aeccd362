"""The database's functions, called over `/rest/v1/rpc/`."""

import json
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from handlers.database.http import ProjectApi
from handlers.errors import DatabaseUnavailableError

REMEDIES: Final = {
    "PGRST202": "; apply the migrations (outlast init prints them)",
    "42501": "; SUPABASE_SERVICE_ROLE_KEY must be the service role's key",
    "PGRST301": "; SUPABASE_SERVICE_ROLE_KEY is not accepted",
}
"""What to do about PostgREST's and PostgreSQL's codes, where we know."""


class RpcClient:
    """Calls functions of one project."""

    def __init__(self, api: ProjectApi) -> None:
        self._api = api

    async def call(self, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON it returns
        """Return what the function returns; None where that is nothing.

        Raises:
            DatabaseUnavailableError: it gave no answer, or refused.
        """
        try:
            async with self._api.request("POST", f"/rest/v1/rpc/{function}", json=arguments) as response:
                text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DatabaseUnavailableError(f"{function}: {type(error).__name__} at SUPABASE_URL") from error
        try:
            answer = None if response.status == HTTPStatus.NO_CONTENT else json.loads(text)
        except ValueError:
            said = f"{response.status} ({response.content_type})"
            raise DatabaseUnavailableError(f"{function}: SUPABASE_URL answered {said}, which is no JSON") from None
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise DatabaseUnavailableError(f"{function}: {refusal_text(answer, response.status)}")
        return answer


def refusal_text(answer: object, status: int | None = None) -> str:
    """Say what the REST API said when it refused, and what to do where we know."""
    told = answer if isinstance(answer, dict) else {}
    code = told.get("code") or (f"HTTP {status}" if status else "no code")
    return f"{code}: {str(told.get('message') or 'no message')[:300]}{REMEDIES.get(str(code), '')}"
