"""FAL's own webhook: signed with Ed25519, checked against FAL's published keys (JWKS).

The signed text is request id, user id, timestamp and the hex SHA-256 of the raw body, joined by newlines; the
signature is hex; a timestamp may be 300 s off; keys may be cached for 24 h (docs.fal.ai, "Webhooks").
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import aiohttp
import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from handlers.sources.verdicts import RejectedError, UnreadableError, VerifierUnavailableError
from schemas.events import Completed, FalWebhook, Ignored

TOLERANCE_SECONDS: Final = 300
CACHE_SECONDS: Final = 24 * 3600
REFRESH_SECONDS: Final = 30
RETRY_SECONDS: Final = 1
MAX_DIGITS: Final = 12
HEADERS: Final = tuple(f"X-Fal-Webhook-{part}" for part in ("Request-Id", "User-Id", "Timestamp", "Signature"))


class Jwks:
    """FAL's public keys, fetched when first needed, kept for a day, asked for anew when none of them fits.

    A flood of bad signatures asks at most every 30 s.
    """

    def __init__(self, url: str, timeout: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = asyncio.Lock()

    async def keys(self, *, fresh: bool = False) -> tuple[Ed25519PublicKey, ...]:
        """Return the keys; `fresh` asks FAL again unless that was done a moment ago.

        Raises:
            VerifierUnavailableError: there is no usable key and FAL does not hand one out now.
        """
        async with self._lock:
            if self._due(fresh=fresh):
                await self._refresh()
        if not self._keys:
            raise VerifierUnavailableError("FAL's public keys cannot be fetched; see FAL_JWKS_URL")
        return self._keys

    def _due(self, *, fresh: bool) -> bool:
        pause = REFRESH_SECONDS if self._keys else RETRY_SECONDS
        if self._tried is not None and self._clock() - self._tried < pause:
            return False
        return fresh or not self._keys or self._expired()

    def _expired(self) -> bool:
        return self._fetched is None or self._clock() - self._fetched > CACHE_SECONDS

    async def _refresh(self) -> None:
        """Ask FAL; when that fails, keys that have not expired stay good."""
        self._tried = self._clock()
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session, session.get(self._url) as response:
                response.raise_for_status()
                found = jwt.PyJWKSet.from_dict(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError, jwt.PyJWKSetError, jwt.PyJWKError):
            self._keys = () if self._expired() else self._keys
            return
        self._keys = tuple(key.key for key in found.keys if isinstance(key.key, Ed25519PublicKey))
        self._fetched = self._tried


class FalSource:
    """Verifies and reads FAL's webhooks; `user_ids`, when not empty, are the only accounts accepted."""

    name = "fal"

    def __init__(self, jwks: Jwks, user_ids: Sequence[str] = (), clock: Callable[[], float] = time.time) -> None:
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
        known = await self._jwks.keys()
        if any(_fits(key, raw, signed) for key in known):
            return True
        renewed = await self._jwks.keys(fresh=True)
        return renewed is not known and any(_fits(key, raw, signed) for key in renewed)

    def parse(self, body: bytes) -> Completed | Ignored:
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
            return Ignored(reason="generation_failed", request_id=event.request_id, error=(event.error or "")[:300])
        return Completed(source="fal", request_id=event.request_id, output=event.payload)


def _fits(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
