"""Who is signed in: a cookie that nobody else can make, and a door that slows down who guesses.

Nothing is kept on the server, so that a session holds at every receiver and over restarts. Its key is derived from both
tokens: to change either ends all sessions. What was signed out before its time is remembered by this process.
"""

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from typing import Final, Literal

from schemas.urls import printable
from worker.settings import Settings

FREE_FAILURES: Final = 5
LONGEST_WAIT_SECONDS: Final = 60.0
MOST_ADDRESSES: Final = 4096
LONGEST_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in operator. `until` is seconds since the epoch; `who` is the name they gave."""

    name: str
    who: str
    role: Literal["operator", "reader"]
    until: float

    @property
    def may_act(self) -> bool:
        """Whether they may change anything."""
        return self.role == "operator"


class Sessions:
    """Makes and reads sessions. `is_open` is False without CONSOLE_TOKEN."""

    def __init__(self, settings: Settings) -> None:
        self.seconds = settings.console_session_hours * 3600
        given = {"operator": settings.console_token, "reader": settings.console_read_token}
        self._tokens = {role: token.get_secret_value().encode() for role, token in given.items() if token is not None}
        self.is_open = settings.console_token is not None
        secret = b"\n".join(hashlib.sha256(self._tokens.get(role, b"")).digest() for role in given)
        self._key = hashlib.sha256(b"outlast console session\n" + secret).digest()
        self._ended: dict[str, float] = {}

    def begin(self, token: str, who: str) -> Session | None:
        """Return a new session for who presents a token; None when it is none of ours."""
        presented, role = token.strip().encode(errors="surrogateescape"), None
        for name, known in self._tokens.items():  # all of them, so that time tells nothing
            role = name if hmac.compare_digest(presented, known) else role
        if role is None or not self.is_open:
            return None
        name = printable(who.strip())[:LONGEST_NAME] or "somebody"
        kind: Literal["operator", "reader"] = "operator" if role == "operator" else "reader"
        return Session(secrets.token_urlsafe(18), name, kind, time.time() + self.seconds)

    def cookie(self, session: Session) -> str:
        """Return a session as text that nobody else can make."""
        told = urlsafe_b64encode(json.dumps(asdict(session)).encode()).decode()
        return f"{told}.{self._sign(told)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is not ours, over, or signed out."""
        told, _, signature = cookie.rpartition(".")
        if not self.is_open or not hmac.compare_digest(self._sign(told).encode(), signature.encode(errors="replace")):
            return None
        session = Session(**json.loads(urlsafe_b64decode(told)))
        return session if session.until > time.time() and session.name not in self._ended else None

    def end(self, session: Session) -> None:
        """Sign out."""
        now = time.time()
        self._ended = {name: until for name, until in self._ended.items() if until > now} | {
            session.name: session.until
        }

    def form_token(self, session: Session) -> str:
        """Return what every form of this session must carry."""
        return self._sign(f"form\n{session.name}")

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


class Slowdown:
    """After five wrong attempts from an address, it must wait: a second, then twice as long each time, at most 60."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def wait(self, address: str) -> float:
        """Return for how many seconds nothing is even compared for this address; 0 when it may try."""
        return max(0.0, self._failures.get(address, (0, 0.0))[1] - time.monotonic())

    def failed(self, address: str) -> None:
        """Note a wrong attempt."""
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        while len(self._failures) >= MOST_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        pause = min(LONGEST_WAIT_SECONDS, 2.0 ** (count - FREE_FAILURES)) if count >= FREE_FAILURES else 0.0
        self._failures[address] = count, time.monotonic() + pause

    def worked(self, address: str) -> None:
        """Forget an address that had the token."""
        self._failures.pop(address, None)
