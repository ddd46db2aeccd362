"""The `sh` blocks of the documents: which of them a test runs, and the reason why each of the others is not run."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", ROOT / "deploy/README.md", *sorted((ROOT / "deploy/docs").glob("*.md"))]
PROGRAMS: Final = {
    "Docker": {"docker"},
    "a Kubernetes cluster": {"kubectl", "grep", "cp"},
    "an account at Fly.io": {"fly", "grep"},
    "root and systemd": {"install", "systemctl", "systemd-run"},
    "this test suite": {"make"},
    "a checkout and a project of its own": {"git", "make", ".", "outlast", "cd", "psql"},
}
"""What a block may need that no test has (`<!-- not run: needs Docker -->`), and the programs that it may call."""
SETTINGS: Final = "not run: lines of .env"
RUN_BY: Final = "run by "
SINGLE_MACHINE: Final = ROOT / "tests/deploy/test_single_machine.py"
BLOCK: Final = re.compile(
    r"(?:^ *<!-- (?P<comment>[^\n]*) -->\s+)?^ *```(?:sh|bash|shell|console)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of shell commands, and the comment before it."""

    comment: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands, with their comments; continued lines are joined."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]

    @property
    def is_run(self) -> bool:
        """Whether tests/e2e/test_documents.py runs it."""
        return not self.comment

    def fault(self) -> str:
        """Return what is wrong with the comment: it must name the test that runs the block, or what the block needs."""
        if self.is_run:
            return ""
        if self.comment == SETTINGS:
            return "" if all(re.match(r"[A-Z_]+=", line) for line in self.commands) else "not only settings"
        if self.comment.startswith(RUN_BY):
            file = ROOT / self.comment.removeprefix(RUN_BY)
            calls = file.read_text() if file.is_file() else ""
            return "" if all(f'"{line.split()[0]}"' in calls for line in self.commands) else "no such test"
        if f'readme_block("{self.comment}")' in SINGLE_MACHINE.read_text():
            return ""
        programs = PROGRAMS.get(self.comment.removeprefix("not run: needs "))
        if programs is None:
            return f"unknown comment: {self.comment}"
        others = {line.split()[0] for line in self.commands} - programs
        return f"these can be run: {', '.join(sorted(others))}" if others else ""


def blocks(page: Path) -> list[Block]:
    """Return the shell blocks of a page."""
    return [Block(found["comment"] or "", found["text"]) for found in BLOCK.finditer(page.read_text("utf-8"))]
