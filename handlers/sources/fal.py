"""FAL's own webhook: signed with Ed25519, checked against FAL's published keys (JWKS).

The signed text is request id, user id, timestamp and the hex SHA-256 of the raw body, joined by newlines; the
signature is hex; a timestamp may be 300 s off; keys may be cached for 24 h (docs.fal.ai, "Webhooks").
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from handlers.sources.errors import RejectedError, UnreadableError
from schemas.events import CompletedGeneration, FalWebhook, IgnoredWebhook

if TYPE_CHECKING:  # 8 MB that a worker never needs
    from handlers.sources.fal_keys import Jwks

TOLERANCE_SECONDS: Final = 300
MAX_DIGITS: Final = 12
HEADERS: Final = tuple(f"X-Fal-Webhook-{part}" for part in ("Request-Id", "User-Id", "Timestamp", "Signature"))


class FalSource:
    """Verifies and reads FAL's webhooks; `user_ids`, when not empty, are the only accounts accepted."""

    name = "fal"

    def __init__(self, jwks: "Jwks", user_ids: Sequence[str] = (), clock: Callable[[], float] = time.time) -> None:
        self._jwks = jwks
        self._user_ids = frozenset(user_ids)
        self._clock = clock

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check signature, age and account.

        Raises:
            RejectedError: the signature is missing, wrong or stale, or the account is not in FAL_USER_IDS.
            VerifierUnavailableError: FAL's keys cannot be fetched.
        """
        missing = [name for name in HEADERS if not headers.get(name)]
        if missing:
            raise RejectedError(f"missing header {', '.join(missing)}: this route takes FAL's signed webhooks only")
        request_id, user_id, timestamp, signature = (headers[name] for name in HEADERS)
        self._check_age(timestamp)
        signed = "\n".join((request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())).encode(
            errors="surrogateescape"
        )
        if not await self._signed_by_fal(signed, signature):
            raise RejectedError("the signature is not FAL's")
        if self._user_ids and user_id not in self._user_ids:
            raise RejectedError("the FAL account is not in FAL_USER_IDS")

    def _check_age(self, timestamp: str) -> None:
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > MAX_DIGITS:
            raise RejectedError("X-Fal-Webhook-Timestamp is not a number of seconds")
        if abs(self._clock() - int(timestamp)) > TOLERANCE_SECONDS:
            raise RejectedError(f"the webhook's timestamp is more than {TOLERANCE_SECONDS} s off; check the clock")

    async def _signed_by_fal(self, signed: bytes, signature: str) -> bool:
        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            raise RejectedError("X-Fal-Webhook-Signature is not hexadecimal") from None
        return await self._jwks.have_signed(signed, raw)

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Read the event; a failed generation is ignored, a lost payload is kept as a job that will say so.

        Raises:
            UnreadableError: the body is not FAL's.
        """
        try:
            event = FalWebhook.model_validate_json(body)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors())
            raise UnreadableError(f"the body is no FAL webhook; look at: {fields}") from None
        if event.status == "ERROR":
            return IgnoredWebhook(
                reason="generation_failed", request_id=event.request_id, error=(event.error or "")[:300]
            )
        return CompletedGeneration(source="fal", request_id=event.request_id, output=event.payload)
