"""FAL's public keys (JWKS), and the verification of signatures with them. Only a receiver imports this module."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import aiohttp
import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from handlers.sources.errors import VerifierUnavailableError

CACHE_SECONDS: Final = 24 * 3600
REFRESH_SECONDS: Final = 30
RETRY_SECONDS: Final = 1


class Jwks:
    """FAL's public keys. They are fetched on first use, cached for a day, and fetched again when none of them matches.

    They are fetched at most every REFRESH_SECONDS, however many invalid signatures arrive.
    """

    def __init__(self, url: str, timeout: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = asyncio.Lock()

    async def keys(self, *, refresh: bool = False) -> tuple[Ed25519PublicKey, ...]:
        """Return the keys. `refresh` fetches them again, unless that was tried less than REFRESH_SECONDS ago.

        Raises:
            VerifierUnavailableError: there is no valid key, and none can be fetched.
        """
        async with self._lock:
            if self._must_fetch(refresh=refresh):
                await self._fetch()
        if not self._keys:
            raise VerifierUnavailableError("FAL's public keys cannot be fetched; check FAL_JWKS_URL")
        return self._keys

    async def verify(self, signed: bytes, signature: bytes) -> bool:
        """Return whether one of the keys made the signature. Raises the error of `keys`."""
        cached = await self.keys()
        if any(_matches(key, signature, signed) for key in cached):
            return True
        renewed = await self.keys(refresh=True)
        return renewed is not cached and any(_matches(key, signature, signed) for key in renewed)

    def _must_fetch(self, *, refresh: bool) -> bool:
        pause = REFRESH_SECONDS if self._keys else RETRY_SECONDS
        if self._tried_at is not None and self._clock() - self._tried_at < pause:
            return False
        return refresh or not self._keys or self._is_expired()

    def _is_expired(self) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at > CACHE_SECONDS

    async def _fetch(self) -> None:
        """Fetch the keys. If that fails, the cached keys remain valid until they expire."""
        self._tried_at = self._clock()
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session, session.get(self._url) as response:
                response.raise_for_status()
                key_set = jwt.PyJWKSet.from_dict(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError, jwt.PyJWKSetError, jwt.PyJWKError):
            self._keys = () if self._is_expired() else self._keys
            return
        self._keys = tuple(key.key for key in key_set.keys if isinstance(key.key, Ed25519PublicKey))
        self._fetched_at = self._tried_at


def _matches(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
