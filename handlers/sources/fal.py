"""FAL's webhook, signed with Ed25519 and verified with FAL's public keys (JWKS).

The signed text consists of the request id, the user id, the timestamp and the hex SHA-256 of the raw body, joined by
newlines. The signature is in hex. A timestamp may differ by 300 s from the clock, and keys may be cached for 24 h
(docs.fal.ai, "Webhooks").
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from pydantic import ValidationError

from handlers.sources.errors import RejectedError, UnreadableError
from handlers.sources.settings import SourceSettings
from handlers.sources.webhook_body import body_text
from schemas.events import MAX_ID_CHARACTERS, CompletedGeneration, FalWebhook, IgnoredWebhook

if TYPE_CHECKING:
    from handlers.sources.fal_keys import Jwks

TOLERANCE_SECONDS: Final = 300
MAX_DIGITS: Final = 12
HEADERS: Final = tuple(f"X-Fal-Webhook-{part}" for part in ("Request-Id", "User-Id", "Timestamp", "Signature"))


class FalSource:
    """Verifies and parses FAL's webhooks. If `user_ids` is not empty, only these FAL accounts are accepted."""

    name = "fal"

    def __init__(self, jwks: "Jwks", user_ids: Sequence[str] = (), clock: Callable[[], float] = time.time) -> None:
        self._jwks = jwks
        self._user_ids = frozenset(user_ids)
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: SourceSettings) -> Self:
        """Return the source for FAL_JWKS_URL and FAL_USER_IDS."""
        from handlers.sources.fal_keys import Jwks  # noqa: PLC0415 - its libraries take 8 MB; only a receiver needs them

        return cls(Jwks(settings.fal_jwks_url), settings.fal_user_ids)

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify the signature, the timestamp and the account.

        Raises:
            RejectedError: the signature is missing, wrong or too old, or the account is not in FAL_USER_IDS.
            VerifierUnavailableError: FAL's keys cannot be fetched.
        """
        missing = [name for name in HEADERS if not headers.get(name)]
        if missing:
            raise RejectedError(f"missing header {', '.join(missing)}: this route accepts FAL's signed webhooks only")
        request_id, user_id, timestamp, signature = (headers[name] for name in HEADERS)
        self._check_timestamp(timestamp)
        signed = "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())).encode(
            errors="surrogateescape"
        )
        if not await self._is_signed_by_fal(signed, signature):
            raise RejectedError("the signature is not FAL's")
        if self._user_ids and user_id not in self._user_ids:
            raise RejectedError("the FAL account is not in FAL_USER_IDS")

    def _check_timestamp(self, timestamp: str) -> None:
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > MAX_DIGITS:
            raise RejectedError("X-Fal-Webhook-Timestamp is not a number of seconds")
        if abs(self._clock() - int(timestamp)) > TOLERANCE_SECONDS:
            raise RejectedError(
                f"X-Fal-Webhook-Timestamp differs by more than {TOLERANCE_SECONDS} s from this machine's clock; "
                "check the clock"
            )

    async def _is_signed_by_fal(self, signed: bytes, signature: str) -> bool:
        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            raise RejectedError("X-Fal-Webhook-Signature is not hexadecimal") from None
        return await self._jwks.verify(signed, raw)

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Parse the body. A failed generation is ignored.

        A completed generation without its payload becomes a job, which fails with the code `no_files`.

        Raises:
            UnreadableError: the body is not a FAL webhook.
        """
        try:
            event = FalWebhook.model_validate_json(body_text(body))
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors())
            raise UnreadableError(f"the body is not a FAL webhook; invalid fields: {fields}") from None
        if event.status == "ERROR":
            error_text = (event.error or "")[:300]
            return IgnoredWebhook(reason="generation_failed", request_id=event.request_id, error=error_text)
        try:
            return CompletedGeneration(source="fal", request_id=event.request_id, output=event.payload)
        except ValidationError:
            raise UnreadableError(f"request_id has more than {MAX_ID_CHARACTERS} characters") from None
