"""FAL's webhook, signed with Ed25519 and verified with FAL's public keys (JWKS).

The signed text consists of the request id, the user id, the timestamp and the hex SHA-256 of the raw body, joined by
newlines. The signature is in hex. A timestamp may differ by 300 s from the clock, and keys may be cached for 24 h
(docs.fal.ai, "Webhooks").
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from pydantic import ValidationError

from handlers.json_text import clean_text
from handlers.sources.errors import ClosedError, RejectedError, UnreadableError
from handlers.sources.settings import SourceSettings
from handlers.sources.standard_webhooks import LARGE_BODY_BYTES, MAX_CLOCK_DIFFERENCE_SECONDS, MAX_TIMESTAMP_DIGITS
from handlers.sources.webhook_body import parse_body
from schemas.events import MAX_ID_CHARACTERS, CompletedGeneration, FalWebhook, IgnoredWebhook
from schemas.jobs import DEFAULT_BINDING, NamedGeneration

if TYPE_CHECKING:
    from handlers.sources.fal_keys import Jwks

MAX_HEADER_CHARACTERS: Final = 512
MAX_ERROR_CHARACTERS: Final = 300
SIGNATURE_BYTES: Final = 64
HEADERS: Final = tuple(f"X-Fal-Webhook-{part}" for part in ("Request-Id", "User-Id", "Timestamp", "Signature"))


class FalSource:
    """Verifies and parses FAL's webhooks of the accounts in `user_ids`; with None, of every account.

    If `user_ids` is empty, every webhook is refused (ClosedError): the signature does not prove whose account sent it.
    """

    name = "fal"

    def __init__(
        self, jwks: "Jwks", user_ids: Sequence[str] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._jwks = jwks
        self._user_ids = None if user_ids is None else frozenset(user_ids)
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: SourceSettings) -> Self:
        """Return the source for FAL_JWKS_URL and FAL_USER_IDS. In the local stack, FAL_USER_IDS is optional."""
        from handlers.sources.fal_keys import Jwks  # noqa: PLC0415 - its libraries take 8 MB; only a receiver needs them

        accepts_all = settings.local_stack and not settings.fal_user_ids
        return cls(Jwks(settings.fal_jwks_url), None if accepts_all else settings.fal_user_ids)

    async def keep_ready(self) -> None:
        """Renew FAL's keys before they expire."""
        if self._user_ids is None or self._user_ids:
            await self._jwks.keep_fresh()

    def check_headers(self, headers: Mapping[str, str]) -> bool:
        """Check form and age of the signature, and the account. Return False: the signature is verified with the body.

        Raises:
            RejectedError: the signature is missing, malformed or too old, or the account is not in FAL_USER_IDS.
            ClosedError: FAL_USER_IDS is not set.
        """
        if self._user_ids is not None and not self._user_ids:
            raise ClosedError("/webhooks/fal is closed, because FAL_USER_IDS is not set")
        missing = [name for name in HEADERS if not 0 < len(headers.get(name, "")) <= MAX_HEADER_CHARACTERS]
        if missing:
            raise RejectedError(f"missing header {', '.join(missing)}: this route accepts FAL's signed webhooks only")
        _, user_id, timestamp, signature = (headers[name] for name in HEADERS)
        self._check_timestamp(timestamp)
        _parse_signature(signature)
        if self._user_ids is not None and user_id not in self._user_ids:
            raise RejectedError("the FAL account is not in FAL_USER_IDS")
        return False

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify the signature, the timestamp and the account.

        Raises:
            RejectedError: the signature is missing, wrong or too old, or the account is not in FAL_USER_IDS.
            ClosedError: FAL_USER_IDS is not set.
            VerifierUnavailableError: FAL's keys cannot be fetched.
        """
        self.check_headers(headers)
        request_id, user_id, timestamp, signature = (headers[name] for name in HEADERS)
        if len(body) < LARGE_BODY_BYTES:
            digest = hashlib.sha256(body).hexdigest()
        else:  # in a thread, so that other webhooks need not wait for the hash
            digest = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
        signed = f"{request_id}\n{user_id}\n{timestamp}\n{digest}".encode(errors="surrogateescape")
        if not await self._jwks.verify(signed, _parse_signature(signature)):
            raise RejectedError("the signature is not FAL's")

    def _check_timestamp(self, timestamp: str) -> None:
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > MAX_TIMESTAMP_DIGITS:
            raise RejectedError("X-Fal-Webhook-Timestamp is not a number of seconds")
        if abs(self._clock() - int(timestamp)) > MAX_CLOCK_DIFFERENCE_SECONDS:
            raise RejectedError(
                f"X-Fal-Webhook-Timestamp differs by more than {MAX_CLOCK_DIFFERENCE_SECONDS} s from this machine's "
                "clock; check the clock"
            )

    def named_generation(self, query: Mapping[str, str]) -> NamedGeneration | None:
        """Return the generation of `?generation_id=` and `?binding=`; None without `generation_id`.

        Raises:
            UnreadableError: a value is not a valid id or not a valid name of a binding.
        """
        if "generation_id" not in query:
            return None
        generation_id, binding = query["generation_id"], query.get("binding", DEFAULT_BINDING)
        try:
            if len(generation_id) > MAX_ID_CHARACTERS:
                raise ValueError  # noqa: TRY301 - one message for both
            return NamedGeneration(binding=binding, generation_id=clean_text(generation_id))
        except ValueError:
            raise UnreadableError(
                f"generation_id or binding in the webhook's address is not valid (at most {MAX_ID_CHARACTERS} "
                "characters; the name of a binding)"
            ) from None

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Parse the body. A request that failed at FAL gives an IgnoredWebhook.

        If FAL sent no payload, the output is None, and a worker requests the result from FAL.

        Raises:
            UnreadableError: the body is not a FAL webhook.
        """
        try:
            event = FalWebhook.model_validate(parse_body(body))
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors())
            raise UnreadableError(f"the body is not a FAL webhook; invalid fields: {fields}") from None
        if event.status == "ERROR":
            return IgnoredWebhook(
                reason="generation_failed", request_id=event.request_id, error=_error_text(event.error)
            )
        try:
            return CompletedGeneration(source="fal", request_id=event.request_id, output=event.payload)
        except ValidationError:
            raise UnreadableError(f"request_id has more than {MAX_ID_CHARACTERS} characters") from None


def _error_text(error: object) -> str:
    """Return the beginning of FAL's error, which can be any JSON, as text; empty for no error."""
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return "" if error is None else text[:MAX_ERROR_CHARACTERS]


def _parse_signature(text: str) -> bytes:
    try:
        signature = bytes.fromhex(text)
    except ValueError:
        raise RejectedError("X-Fal-Webhook-Signature is not hexadecimal") from None
    if len(signature) != SIGNATURE_BYTES:
        raise RejectedError(f"X-Fal-Webhook-Signature is not the hexadecimal form of {SIGNATURE_BYTES} bytes")
    return signature
