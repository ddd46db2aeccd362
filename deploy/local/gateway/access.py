"""Who is asking: JSON Web Tokens as Supabase makes and reads them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jwt

ROLES: Final = ("anon", "authenticated", "service_role")
ISSUED: Final = 1735689600  # constant times make constant keys, so that a .env stays good from run to run
EXPIRES: Final = 2082758400
LATELY_READ: Final = 256


class TokenError(Exception):
    """A token that is no good; the message is the one Supabase's own library gives."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class RoleError(Exception):
    """A good token that asks for a role the REST API may not take."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The database role a request acts as, and its token's claims as JSON."""

    role: str
    claims: str


class Keys:
    """Signs and reads the tokens of one project."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.anon = self._api_key("anon")
        self.service_role = self._api_key("service_role")
        self._read_now = lru_cache(LATELY_READ)(self._read)

    def _api_key(self, role: str) -> str:
        return self.sign({"iss": "supabase-local", "role": role, "iat": ISSUED, "exp": EXPIRES})

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return an HS256 token."""
        return jwt.encode(dict(claims), self.secret, algorithm="HS256")

    def read(self, token: str) -> dict[str, Any]:
        """Return the claims of a token; raise TokenError when it is malformed, forged or expired."""
        return self._read_now(token, int(time.time()))

    def _read(self, token: str, _second: int) -> dict[str, Any]:
        """Read a token. It is good or bad for a whole second, since that is how its times are told."""
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
        """Return whom a token speaks for; raise TokenError, or RoleError for a role that is none of Supabase's."""
        claims = self.read(token)
        role = claims.get("role") or "anon"
        if role not in ROLES:
            raise RoleError(str(role))
        return Caller(role, json.dumps(claims))


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of `Authorization: Bearer ...`, if there is one."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
