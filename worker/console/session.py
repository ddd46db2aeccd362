"""Sessions of operators: a signed cookie, and a delay after wrong sign-in attempts.

The server stores no sessions, so a session is valid at every receiver and after a restart. The signing key is derived
from both tokens: changing either one ends all sessions. Only this process remembers sessions that were signed out.
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
MAX_ADDRESSES: Final = 4096
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
        digests = b"\n".join(hashlib.sha256(self._tokens.get(role, b"")).digest() for role in by_role)
        key = hashlib.sha256(b"outlast console session\n" + digests).digest()
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


class SignInThrottle:
    """Delays sign-in attempts of an address after five failures: one second, doubled each time, at most 60."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def seconds_left(self, address: str) -> float:
        """Return for how many seconds attempts of this address are refused unchecked; 0 if it may try now."""
        return max(0.0, self._failures.get(address, (0, 0.0))[1] - time.monotonic())

    def record_failure(self, address: str) -> None:
        """Count a wrong attempt."""
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        while len(self._failures) >= MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        delay = min(MAX_DELAY_SECONDS, 2.0 ** (count - FREE_FAILURES)) if count >= FREE_FAILURES else 0.0
        self._failures[address] = count, time.monotonic() + delay

    def record_success(self, address: str) -> None:
        """Forget the failures of an address."""
        self._failures.pop(address, None)
