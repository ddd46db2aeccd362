"""Sessions of operators: a signed cookie, and a delay after wrong sign-in attempts.

The server stores no sessions, so a session is valid at every receiver and after a restart. The signing key is derived
from both tokens with scrypt: changing either one ends all sessions, and whoever has seen a cookie needs about 50 ms and
16 MiB for each guess of a token. Only this process remembers sessions that were signed out.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Final, Literal

from itsdangerous import BadData, Signer, URLSafeSerializer

from schemas.urls import printable_name
from worker.settings import Settings

FREE_FAILURES: Final = 5
MAX_DELAY_SECONDS: Final = 60.0
MAX_FAILURES: Final = 30
"""Failures that are counted; the delay has reached its maximum long before."""
MAX_COUNTED: Final = 4096
PREFIX_CHARACTERS: Final = 4
MAX_NAME_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in operator. `name` is the name they entered, `expires_at` is in seconds since the epoch."""

    id: str
    name: str
    role: Literal["operator", "reader"]
    expires_at: float

    @property
    def may_act(self) -> bool:
        """Whether the operator may change anything."""
        return self.role == "operator"


class Sessions:
    """Creates and reads sessions. `enabled` is False if CONSOLE_TOKEN is not set."""

    def __init__(self, settings: Settings) -> None:
        self.seconds = settings.console_session_hours * 3600
        by_role = {"operator": settings.console_token, "reader": settings.console_read_token}
        self._tokens = {role: token.get_secret_value().encode() for role, token in by_role.items() if token is not None}
        self.enabled = settings.console_token is not None
        key = _signing_key([self._tokens.get(role, b"") for role in by_role]) if self.enabled else b""
        signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._cookies = URLSafeSerializer(key, salt=b"session", signer_kwargs=signer)
        self._forms = Signer(key, salt=b"form", key_derivation="hmac", digest_method=hashlib.sha256)
        self._ended: dict[str, float] = {}

    def create(self, token: str, name: str) -> Session | None:
        """Return a new session for a valid token, otherwise None."""
        presented, matching = token.strip().encode(errors="surrogateescape"), None
        for role, known in self._tokens.items():  # compare with all tokens, so that the time reveals nothing
            matching = role if hmac.compare_digest(presented, known) else matching
        if matching is None or not self.enabled:
            return None
        shown_name = printable_name(name.strip())[:MAX_NAME_LENGTH] or "somebody"
        kind: Literal["operator", "reader"] = "operator" if matching == "operator" else "reader"
        return Session(secrets.token_urlsafe(18), shown_name, kind, time.time() + self.seconds)

    def cookie(self, session: Session) -> str:
        """Return the signed value of the cookie for a session."""
        return str(self._cookies.dumps(asdict(session)))

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if its signature is wrong, it has expired, or it was signed out."""
        if not self.enabled:
            return None
        try:
            session = Session(**self._cookies.loads(cookie.encode(errors="replace")))
        except BadData:
            return None
        return session if session.expires_at > time.time() and session.id not in self._ended else None

    def end(self, session: Session) -> None:
        """Sign out."""
        now = time.time()
        active = {key: expires_at for key, expires_at in self._ended.items() if expires_at > now}
        self._ended = active | {session.id: session.expires_at}

    def form_token(self, session: Session) -> str:
        """Return the token that every form of this session must contain."""
        return self._forms.get_signature(session.id).decode()


def _signing_key(tokens: list[bytes]) -> bytes:
    """Derive the key of cookies and forms, the same in each receiver. Takes about 50 ms."""
    digests = b"".join(hashlib.sha256(token).digest() for token in tokens)
    return hashlib.scrypt(digests, salt=b"outlast console session", n=2**14, r=8, p=1, dklen=32)


class SignInThrottle:
    """Asks to wait after five wrong attempts: one second, doubled each time, at most 60.

    Attempts are counted by the address and the beginning of the token. So wrong attempts of others behind the same
    proxy do not delay an operator who has mistyped. The right token is accepted at any time.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[bytes, str], int] = {}  # the latest last

    def record_failure(self, token: str, address: str) -> float:
        """Count a wrong attempt; return how many seconds to wait, 0 after the first attempts."""
        prefix = token[:PREFIX_CHARACTERS].encode(errors="surrogatepass")
        key = hashlib.sha256(prefix).digest()[:8], address
        count = self._failures.pop(key, 0) + 1
        while len(self._failures) >= MAX_COUNTED:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = min(count, MAX_FAILURES)
        return 0.0 if count < FREE_FAILURES else min(MAX_DELAY_SECONDS, 2.0 ** (count - FREE_FAILURES))
