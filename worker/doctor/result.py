"""What a check says: it returns how things are, or raises what is wrong together with what to do."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from worker.doctor.context import CheckContext

CHECK_SECONDS: Final = 10.0


class Failure(Exception):  # noqa: N818 - it is what a check found, and no fault of the program's
    """Outlast cannot work like this."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


class Concern(Failure):
    """Outlast works, but not all of it, or not as well as it could."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """A check by its name, which others are in need of by that name. Ended after `seconds` whatever it waits for."""

    name: str
    look: Callable[[CheckContext], Awaitable[str]]
    needs: tuple[str, ...] = ()
    seconds: float = CHECK_SECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check."""

    check: str
    state: State
    detail: str
    remedy: str = ""

    def row(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)

    def line(self) -> str:
        """Return it as one line."""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return " ".join(f"{self.state:<8} {self.check + ':':<18} {self.detail}{remedy}".split("\n"))
