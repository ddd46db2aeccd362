"""Verifies Standard Webhooks signatures (https://www.standardwebhooks.com, "Signature scheme").

The signed text consists of id, timestamp and body, joined by dots. The signature header is a list of `v1,<base64>`,
separated by spaces. Svix sends the same headers with the prefix `svix-`. The `standardwebhooks` package copies the body
four times and cannot check the headers alone.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from handlers.sources.errors import RejectedError

PREFIX: Final = "whsec_"
HEADER_PREFIXES: Final = ("webhook-", "svix-")
MAX_CLOCK_DIFFERENCE_SECONDS: Final = 300
MAX_TIMESTAMP_DIGITS: Final = 12
MAX_WEBHOOK_ID_CHARACTERS: Final = 256
MAX_SIGNATURES: Final = 16
LARGE_BODY_BYTES: Final = 1024 * 1024
"""Bodies of at least this size are hashed in a thread, because that takes a millisecond or more."""


class SignatureVerifier:
    """Verifies signatures made with one of several secrets (`whsec_...`)."""

    def __init__(self, secrets: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._keys = tuple(base64.b64decode(secret.removeprefix(PREFIX)) for secret in secrets)
        self._clock = clock

    def check_headers(self, headers: Mapping[str, str]) -> list[bytes]:
        """Return the signatures. Raise RejectedError if the headers cannot belong to a valid signature."""
        if not self._keys:
            raise _rejected("SUPABASE_WEBHOOK_SECRETS has no signing secret (whsec_...)")
        prefix = _prefix(headers)
        if not 0 < len(headers.get(f"{prefix}id", "")) <= MAX_WEBHOOK_ID_CHARACTERS:
            raise _rejected(f"the header {prefix}id is missing or too long")
        self._check_timestamp(f"{prefix}timestamp", headers)
        words = headers.get(f"{prefix}signature", "").split(" ")[:MAX_SIGNATURES]
        signatures = [signature for word in words if (signature := _decode(word)) is not None]
        if not signatures:
            raise _rejected(f"{prefix}signature has no signature of the form v1,<base64 of 32 bytes>")
        return signatures

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify the signature of `body`. Raise RejectedError if no secret has made any of the signatures."""
        signatures = self.check_headers(headers)
        prefix = _prefix(headers)
        signed = f"{headers[f'{prefix}id']}.{headers[f'{prefix}timestamp']}.".encode(errors="surrogateescape")
        matches = [
            hmac.compare_digest(signature, expected)
            for expected in (_digest(key, signed, body) for key in self._keys)
            for signature in signatures
        ]
        if not any(matches):
            raise _rejected("no secret of SUPABASE_WEBHOOK_SECRETS has made it")

    def _check_timestamp(self, name: str, headers: Mapping[str, str]) -> None:
        timestamp = headers.get(name, "")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > MAX_TIMESTAMP_DIGITS:
            raise _rejected(f"{name} is not a number of seconds")
        if abs(self._clock() - int(timestamp)) > MAX_CLOCK_DIFFERENCE_SECONDS:
            raise _rejected(
                f"{name} differs by more than {MAX_CLOCK_DIFFERENCE_SECONDS} s from this machine's clock; "
                "check the clock"
            )


def has_signature(headers: Mapping[str, str]) -> bool:
    """Return whether the headers have a signature header, valid or not."""
    return any(f"{prefix}signature" in headers for prefix in HEADER_PREFIXES)


def _prefix(headers: Mapping[str, str]) -> str:
    """Return the prefix of the header names: the first one that has a signature header."""
    return next((prefix for prefix in HEADER_PREFIXES if f"{prefix}signature" in headers), HEADER_PREFIXES[0])


def _digest(key: bytes, signed: bytes, body: bytes) -> bytes:
    digest = hmac.new(key, signed, hashlib.sha256)
    digest.update(body)
    return digest.digest()


def _decode(word: str) -> bytes | None:
    """Return the signature of a word `v1,<base64>`; None for another version and for a malformed word."""
    version, _, text = word.partition(",")
    try:
        signature = base64.b64decode(text, validate=True) if version == "v1" else b""
    except ValueError:
        return None
    return signature if len(signature) == hashlib.sha256().digest_size else None


def _rejected(reason: str) -> RejectedError:
    return RejectedError(f"the webhook signature is not accepted: {reason}")
