"""Interprets the answers of Supabase Storage.

Storage sends almost every error as HTTP 400. The true status is `statusCode` in the body.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from handlers.download.http_response import retry_after
from handlers.errors import StorageRejectedError, StorageUnavailableError

CONFLICT: Final = HTTPStatus.CONFLICT.value
TRANSIENT: Final = frozenset({408, CONFLICT, 423, 425, 429})
NOT_FOUND: Final = frozenset({HTTPStatus.NOT_FOUND.value, HTTPStatus.GONE.value})
ACCESS_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED.value, HTTPStatus.FORBIDDEN.value})


@dataclass(frozen=True, slots=True)
class StorageReply:
    """An answer, with its true status. `detail` is for error messages; `body` is the JSON value, None without JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any
    detail: str
    from_storage: bool
    """For an error: whether Storage itself sent it. Otherwise a proxy in front of Storage did."""

    @property
    def outcome(self) -> str:
        """The label of the metric: ok, duplicate, missing, rejected or unavailable."""
        if self.status < HTTPStatus.MULTIPLE_CHOICES:
            return "ok"
        if self.status == CONFLICT:
            return "duplicate"
        if self.from_storage and self.status in NOT_FOUND:
            return "missing"
        return "unavailable" if isinstance(self.error(), StorageUnavailableError) else "rejected"

    def check(self) -> None:
        """Raise StorageRejectedError or StorageUnavailableError, unless the request succeeded."""
        if self.outcome != "ok":
            raise self.error()

    def error(self) -> StorageRejectedError | StorageUnavailableError:
        """Return the error for a refused request.

        The error is final only if Storage itself refuses, or if the body is too large: a proxy's other errors may pass.
        """
        message = f"{'Storage' if self.from_storage else 'a proxy before Storage'} answered {self.status}{self.detail}"
        status = self.status
        final = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in TRANSIENT
        if not final or not (self.from_storage or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            return StorageUnavailableError(message, retry_after=retry_after(self.headers.get("Retry-After")))
        if status == HTTPStatus.NOT_FOUND:
            message += "; create the bucket, or set STORAGE_BUCKET"
        if status in ACCESS_DENIED:
            message += "; set SUPABASE_SERVICE_ROLE_KEY to the service role key of this project"
        return StorageRejectedError(message)

    def unexpected_answer(self) -> StorageUnavailableError:
        """Return the error for a success that does not have the form of Storage's answers."""
        return StorageUnavailableError(f"a proxy before Storage answered {self.status}{self.detail}")


async def read_reply(response: aiohttp.ClientResponse) -> StorageReply:
    """Read an answer: JSON from Storage, plain text from its TUS server, or a proxy's page."""
    text = await response.text(errors="replace")
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = None
    is_tus = "Tus-Resumable" in response.headers
    status = response.status
    if not isinstance(body, dict):
        detail = f": {text.strip()[:300]}" if is_tus else f" ({response.content_type})"
        return StorageReply(status, response.headers, body, detail, from_storage=is_tus)
    if status >= HTTPStatus.BAD_REQUEST and str(body.get("statusCode", "")).isdecimal():
        status = int(body["statusCode"])
    detail = f" {body['error']}" if "error" in body else ""
    detail += f": {str(body['message'])[:300]}" if "message" in body else ""
    from_storage = is_tus or bool(text) or response.method == "HEAD"
    return StorageReply(status, response.headers, body, detail, from_storage)
