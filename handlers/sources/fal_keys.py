"""FAL's public keys (JWKS), and the verification of signatures with them. Only a receiver imports this module."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import jwt
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from handlers.sources.errors import VerifierUnavailableError

CACHE_SECONDS: Final = 24 * 3600
RENEW_SECONDS: Final = 6 * 3600
REFRESH_SECONDS: Final = 30
RETRY_SECONDS: Final = 1
MAX_WAIT_SECONDS: Final = 1.0
"""How long a webhook whose signature fits no known key waits for new keys. Without known keys, it waits for them."""
MAX_JWKS_BYTES: Final = 64 * 1024
MAX_KEYS: Final = 16
Keys = tuple[Ed25519PublicKey, ...]
log = structlog.stdlib.get_logger(__name__)


class Jwks:
    """FAL's public keys. They are fetched in the background; a webhook that a known key has signed never waits.

    The keys are valid for a day. They are fetched at most every REFRESH_SECONDS (every RETRY_SECONDS while there are no
    valid keys), however many invalid signatures arrive. Only a list with an Ed25519 key replaces them.
    """

    def __init__(self, url: str, timeout: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock
        self._keys: Keys = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def keep_fresh(self) -> None:
        """Fetch the keys now, and again long before they expire, until cancelled."""
        while True:
            await self._fetch_if_due()
            await asyncio.sleep(RENEW_SECONDS if self._known() else REFRESH_SECONDS)

    async def verify(self, signed: bytes, signature: bytes) -> bool:
        """Return whether one of the keys made the signature.

        Raises:
            VerifierUnavailableError: there is no valid key, and none can be fetched.
        """
        known = self._known()
        if _matches_any(known, signature, signed):
            return True
        await self._fetch_if_due(MAX_WAIT_SECONDS if known else None)
        renewed = self._known()
        if not renewed:
            raise VerifierUnavailableError("FAL's public keys cannot be fetched; check FAL_JWKS_URL")
        return renewed is not known and _matches_any(renewed, signature, signed)

    def _known(self) -> Keys:
        is_valid = self._fetched_at is not None and self._clock() - self._fetched_at <= CACHE_SECONDS
        return self._keys if is_valid else ()

    async def _fetch_if_due(self, wait_seconds: float | None = None) -> None:
        """Fetch the keys, unless the last fetch began too recently; wait at most `wait_seconds` for a running fetch."""
        if self._fetching is None:
            pause = REFRESH_SECONDS if self._known() else RETRY_SECONDS
            if self._tried_at is not None and self._clock() - self._tried_at < pause:
                return
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch(), name="FAL's keys")
        await asyncio.wait([self._fetching], timeout=wait_seconds)

    async def _fetch(self) -> None:
        """Replace the keys. If that fails, the known keys stay."""
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session, session.get(self._url) as response:
                response.raise_for_status()
                keys = _parse_keys(await _read(response))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("FAL's keys not fetched", reason=str(error) or type(error).__name__)
        else:
            self._keys, self._fetched_at = keys, self._tried_at
        finally:
            self._fetching = None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_JWKS_BYTES:
            raise ValueError(f"the answer of FAL_JWKS_URL is larger than {MAX_JWKS_BYTES} bytes")
    return bytes(body)


def _parse_keys(body: bytes) -> Keys:
    """Return the Ed25519 keys of a JWKS. Raise ValueError if there is none."""
    try:
        document: Any = json.loads(body)
    except RecursionError:
        document = None
    entries = document.get("keys") if isinstance(document, dict) else None
    found = [_parse_key(entry) for entry in (entries if isinstance(entries, list) else [])[:MAX_KEYS]]
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise ValueError("the answer of FAL_JWKS_URL has no Ed25519 key")
    return keys


def _parse_key(entry: object) -> Ed25519PublicKey | None:
    if not isinstance(entry, dict) or entry.get("crv") != "Ed25519":
        return None
    try:
        key = jwt.PyJWK.from_dict(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):  # what PyJWT raises for odd values differs
        return None
    return key if isinstance(key, Ed25519PublicKey) else None


def _matches_any(keys: Keys, signature: bytes, signed: bytes) -> bool:
    return any(_matches(key, signature, signed) for key in keys)


def _matches(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
