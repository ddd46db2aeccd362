"""The report of `outlast adopt`: files that are skipped on purpose are listed, but are no failures."""

from collections import Counter

from schemas.formats import SKIPPED
from worker.cli.adopt.adopter import AdoptResult
from worker.cli.adopt.past import AdoptedTotals
from worker.cli.adopt.run import report_text

CODES = {"source_gone": 3, "corrupted": 2, SKIPPED: 4}


def test_skipped_files_are_listed_and_not_counted_as_failed():
    result = AdoptResult(done=5, stored_files=7, failed=Counter(CODES))
    totals = AdoptedTotals(tasks={"completed": 5}, stored_files=7, codes=CODES)
    assert report_text(result, totals).splitlines() == [
        "5 generations done: 7 files stored",
        f"4 not stored: {SKIPPED}",
        "3 not stored: source_gone",
        "2 not stored: corrupted",
        "all runs: 7 stored, 3 dead links, 5 failed",
    ]
