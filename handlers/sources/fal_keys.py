"""FAL's public keys (JWKS), and whether something was signed with one of them. Only a receiver loads this."""

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

    async def have_signed(self, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is of one of the keys; raise what `keys` raises."""
        known = await self.keys()
        if any(_fits(key, signature, signed) for key in known):
            return True
        renewed = await self.keys(fresh=True)
        return renewed is not known and any(_fits(key, signature, signed) for key in renewed)

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


def _fits(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
