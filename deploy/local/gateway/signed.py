"""Signed URLs: a token that opens one object for a time."""

import time
from typing import Any

import jwt

from deploy.local.gateway.access import Access
from deploy.local.gateway.replies import StorageError


class SignedUrls:
    """Makes and checks the tokens."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def url(self, bucket: str, path: str, seconds: int) -> str:
        """Return the path of a URL that serves the object for so many seconds."""
        now = int(time.time())
        claims = {"url": f"{bucket}/{path}", "scope": "download", "iat": now, "exp": now + seconds}
        return f"/object/sign/{bucket}/{path}?token={jwt.encode(claims, self._access.secret, algorithm='HS256')}"

    def check(self, bucket: str, path: str, token: str) -> None:
        """Raise StorageError unless the token opens this object now."""
        try:
            claims: dict[str, Any] = jwt.decode(token, self._access.secret, algorithms=["HS256"])
        except jwt.ExpiredSignatureError:
            said = '"exp" claim timestamp check failed'
            raise StorageError(400, "InvalidJWT", said, "InvalidJWT") from None
        except jwt.PyJWTError:
            raise StorageError(400, "InvalidJWT", "signature verification failed", "InvalidJWT") from None
        if claims.get("url") != f"{bucket}/{path}" or claims.get("scope") != "download":
            raise StorageError(400, "InvalidSignature", "Invalid signature", "InvalidSignature")
