"""API keys and user tokens: JSON Web Tokens with the claims that Supabase uses."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jwt

ROLES: Final = ("anon", "authenticated", "service_role")
ISSUED_AT: Final = 1735689600  # fixed times make fixed keys, so that a .env stays valid across runs
EXPIRES_AT: Final = 2082758400
TOKEN_CACHE_SIZE: Final = 256


class TokenError(Exception):
    """An invalid token. The message is that of the JWT library in Supabase's services."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class RoleError(Exception):
    """A valid token for a database role that the API must not use. The message is the name of the role."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The database role of a request, and the claims of its token as JSON."""

    role: str
    claims: str


class ProjectKeys:
    """The API keys of one project. Signs and verifies its tokens."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.anon = self._api_key("anon")
        self.service_role = self._api_key("service_role")
        self._cached_read = lru_cache(TOKEN_CACHE_SIZE)(self._read)

    def _api_key(self, role: str) -> str:
        return self.sign({"iss": "supabase-local", "role": role, "iat": ISSUED_AT, "exp": EXPIRES_AT})

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return an HS256 token."""
        return jwt.encode(dict(claims), self.secret, algorithm="HS256")

    def read(self, token: str) -> dict[str, Any]:
        """Return the claims of a token. Raises TokenError when it is malformed, forged or expired."""
        return self._cached_read(token, int(time.time()))

    def _read(self, token: str, _second: int) -> dict[str, Any]:
        """Verify a token. `_second` is part of the cache key, because a token can expire after any second."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self.secret, algorithms=["HS256"], options={"verify_aud": False, "verify_iat": False}
            )
        except jwt.ExpiredSignatureError:
            raise TokenError('"exp" claim timestamp check failed', expired=True) from None
        except jwt.InvalidSignatureError:
            raise TokenError("signature verification failed") from None
        except jwt.InvalidTokenError:
            raise TokenError("Invalid Compact JWS") from None
        return claims

    def caller(self, token: str) -> Caller:
        """Return the caller that a token names. Raises TokenError, and RoleError for an unknown role."""
        claims = self.read(token)
        role = claims.get("role") or "anon"
        if role not in ROLES:
            raise RoleError(str(role))
        return Caller(role, json.dumps(claims))


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of the header `Authorization: Bearer ...`, or None."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
