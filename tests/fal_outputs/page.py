"""Plans a synthetic output of every endpoint of FAL, and writes what of it is not stored into a page of the manual.

    python -m tests.fal_outputs.page deploy/docs/fal-outputs.md

installs FAL's client with npm for its type declarations.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.outputs import find_files
from tests.fal_outputs.declarations import Declarations, read_declarations
from tests.fal_outputs.synthetic import Synthetic, synthetic_outputs
from tests.npm import npm_ci

PROJECT: Final = Path(__file__).parent
DECLARATIONS: Final = Path("node_modules/@fal-ai/client/src/types/endpoints.d.ts")
START: Final = "<!-- made by `python -m tests.fal_outputs.page` -->\n"
END: Final = "<!-- end of the list -->\n"
MAX_CHARACTERS: Final = 90


@dataclass
class NotStored:
    """Strings under one name that are not stored: the endpoints, what the declarations say, and the reason."""

    reason: str
    endpoints: set[str] = field(default_factory=set)
    docs: dict[str, int] = field(default_factory=dict)


@dataclass
class PlannedOutputs:
    """What became of all outputs: the number of endpoints and of files, and by name what is not stored."""

    endpoints: int = 0
    without_files: list[str] = field(default_factory=list)
    files: int = 0
    not_stored: dict[tuple[str, str], NotStored] = field(default_factory=dict)


def install(folder: Path) -> Declarations:
    """Install FAL's client in a folder, and read its declarations."""
    return read_declarations(npm_ci(PROJECT, folder) / DECLARATIONS)


def plan_all(declarations: Declarations) -> PlannedOutputs:
    """Plan an output of every endpoint."""
    settings = MediaSettings()
    allowlist = Allowlist(settings.source_allowlist)
    planned = PlannedOutputs()
    for endpoint, output in synthetic_outputs(declarations):
        found = find_files(output.value, settings, allowlist)
        planned.endpoints += 1
        planned.files += len(found.files)
        if not found.files:
            planned.without_files.append(endpoint)
        skipped = {file.source_url: file.code for file in found.skipped}
        _add_not_stored(planned, endpoint, output, {file.url for file in found.files}, skipped)
    return planned


def _add_not_stored(
    planned: PlannedOutputs, endpoint: str, output: Synthetic, stored: set[str], skipped: dict[str, str]
) -> None:
    for text in output.texts:
        if text.value in stored:
            continue
        reason = skipped.get(text.value, "no file") if text.is_link else "a text"
        entry = planned.not_stored.setdefault((text.member.name, reason), NotStored(reason))
        entry.endpoints.add(endpoint)
        entry.docs[text.member.doc] = entry.docs.get(text.member.doc, 0) + 1


def table(planned: PlannedOutputs) -> str:
    """Return the Markdown list of what is not stored."""
    lines = [
        f"{planned.endpoints:,} endpoints, {planned.files:,} files; {len(planned.without_files)} endpoints have none.",
        "",
        "| field | endpoints | why | what FAL says about it |",
        "|---|---|---|---|",
    ]
    for (name, reason), entry in sorted(planned.not_stored.items()):
        doc = max(entry.docs, key=lambda text: (entry.docs[text], text))
        lines.append(f"| `{name}` | {len(entry.endpoints)} | {reason} | {_cell(doc)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    short = text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS].rpartition(" ")[0] + " ..."
    return short.replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("*", "\\*")


def with_new_table(text: str, planned: PlannedOutputs) -> str:
    """Return the text of the page with the list between START and END replaced by the current one."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + "\n" + table(planned) + "\n" + END + after


if __name__ == "__main__":
    page = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        page.write_text(with_new_table(page.read_text(), plan_all(install(Path(folder)))))
