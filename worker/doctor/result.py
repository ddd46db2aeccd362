"""The result of a check. A check returns a short description of the state, or raises a problem with its remedy."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from worker.doctor.context import CheckContext

CHECK_SECONDS: Final = 10.0


class CheckFailure(Exception):  # noqa: N818 - a finding of a check, not an error of the program
    """A problem with which Outlast cannot work, and its remedy."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


class CheckWarning(CheckFailure):
    """A problem with which Outlast works, but with a limitation."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """A check. It runs after the checks in `needs` and `after`, and fails if it takes longer than `seconds`.

    It is skipped if a check in `needs` fails.
    """

    name: str
    run: Callable[[CheckContext], Awaitable[str]]
    needs: tuple[str, ...] = ()
    seconds: float = CHECK_SECONDS
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    check: str
    state: State
    detail: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the result for JSON output."""
        return asdict(self)

    def to_line(self) -> str:
        """Return the result as one line of text."""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return " ".join(f"{self.state:<8} {self.check + ':':<18} {self.detail}{remedy}".split("\n"))
