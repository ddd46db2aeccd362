"""Counts the outcomes of a fuzz run."""

from collections import Counter
from dataclasses import dataclass, field

from handlers.media import MEDIA_TYPES

OUTCOMES = ("type_not_supported", "corrupted", "decoder_limit", "stored", "wrong", "crashed", "hung", "failed")
"""The outcomes of a case; `wrong` and those after it are findings."""
FINDINGS = frozenset(OUTCOMES[OUTCOMES.index("wrong") :])


@dataclass(slots=True)
class FuzzCounts:
    """The number of cases by type and outcome, and the findings: (case, sample, mutations, description)."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[tuple[int, str, str, str]] = field(default_factory=list)
    slowest: float = 0.0

    def table(self) -> str:
        """Return the outcomes by type, as a text table."""
        types = [media.content_type for media in MEDIA_TYPES]
        rows = [["type", "cases", *OUTCOMES]]
        for name in [*types, "all"]:
            counts = [
                sum(self.outcomes[content_type, outcome] for content_type in (types if name == "all" else [name]))
                for outcome in OUTCOMES
            ]
            rows.append([name, str(sum(counts)), *map(str, counts)])
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
