"""How the cases of a run ended."""

from collections import Counter
from dataclasses import dataclass, field

from handlers.media import MEDIA_TYPES

OUTCOMES = ("type_not_supported", "corrupted", "decoder_limit", "stored", "wrong", "crashed", "hung", "failed")
"""How a case ends; from `wrong` on they are findings."""
FINDINGS = frozenset(OUTCOMES[OUTCOMES.index("wrong") :])


@dataclass(slots=True)
class FuzzCounts:
    """How the cases of each type ended, and what was found: (case, sample, mutation, what)."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[tuple[int, str, str, str]] = field(default_factory=list)
    slowest: float = 0.0

    def table(self) -> str:
        """Return the ends by type, as text."""
        types = [media.content_type for media in MEDIA_TYPES]
        rows = [["type", "cases", *OUTCOMES]]
        for name in [*types, "all"]:
            counts = [sum(self.ends[one, end] for one in (types if name == "all" else [name])) for end in OUTCOMES]
            rows.append([name, str(sum(counts)), *map(str, counts)])
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
