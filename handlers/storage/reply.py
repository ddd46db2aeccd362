"""What an answer of Supabase Storage means: it hides nearly every error behind HTTP 400; the body tells which."""

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
    """An answer. `status` is the true one, which Storage tells in the body and hides behind HTTP 400."""

    status: int
    headers: Mapping[str, str]
    body: Any
    detail: str
    from_storage: bool
    """Whether Storage said it, or something before it."""

    @property
    def outcome(self) -> str:
        """How the metric calls it: ok, duplicate, missing, rejected or unavailable."""
        if self.status < HTTPStatus.MULTIPLE_CHOICES:
            return "ok"
        if self.status == CONFLICT:
            return "duplicate"
        if self.from_storage and self.status in NOT_FOUND:
            return "missing"
        return "unavailable" if isinstance(self.error(), StorageUnavailableError) else "rejected"

    def check(self) -> None:
        """Raise StorageRejectedError or StorageUnavailableError, unless it is a success."""
        if self.outcome != "ok":
            raise self.error()

    def error(self) -> StorageRejectedError | StorageUnavailableError:
        """Return a refusal as an error; what Storage did not say itself is never final, but for a size refused."""
        what = f"{'Storage' if self.from_storage else 'something before Storage'} answered {self.status}{self.detail}"
        status = self.status
        final = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in TRANSIENT
        if not final or not (self.from_storage or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            return StorageUnavailableError(what, retry_after=retry_after(self.headers.get("Retry-After")))
        if status == HTTPStatus.NOT_FOUND:
            what += "; create the bucket, or set STORAGE_BUCKET"
        if status in ACCESS_DENIED:
            what += "; is SUPABASE_SERVICE_ROLE_KEY this project's?"
        return StorageRejectedError(what)

    def foreign_error(self) -> StorageUnavailableError:
        """Return the error that a success is, when it is none of Storage's."""
        return StorageUnavailableError(f"something before Storage answered {self.status}{self.detail}")


async def read_reply(response: aiohttp.ClientResponse) -> StorageReply:
    """Read an answer: JSON from Storage, plain text from its TUS server, a page from whatever stands before them."""
    text = await response.text(errors="replace")
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = None
    resumable = "Tus-Resumable" in response.headers
    status = response.status
    if not isinstance(body, dict):
        said = f": {text.strip()[:300]}" if resumable else f" ({response.content_type})"
        return StorageReply(status, response.headers, body, said, resumable)
    if status >= HTTPStatus.BAD_REQUEST and str(body.get("statusCode", "")).isdecimal():
        status = int(body["statusCode"])
    said = f" {body['error']}" if "error" in body else ""
    said += f": {str(body['message'])[:300]}" if "message" in body else ""
    return StorageReply(status, response.headers, body, said, from_storage=resumable or bool(text) or response.method == "HEAD")
