"""The groups of tests that xdist runs on one worker."""

import re
from pathlib import Path

from tests.distribution import FIRST, GROUPS, STACK, group_of, place_of

ROOT = Path(__file__).parents[2]


def test_every_named_file_and_folder_exists():
    groups = set(GROUPS.values())
    named = [*GROUPS, *(name for name in FIRST if name not in groups)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_files_that_share_a_stack_are_one_group():
    files = [file for file in (ROOT / "tests" / "e2e").glob("test_*.py") if uses_stack(file)]
    assert files
    assert {file.name: group_of(f"tests/e2e/{file.name}::test") for file in files} == {
        file.name: STACK for file in files
    }


def uses_stack(file):
    return re.search(r"^async def \w+\(.*\b(stack|project)\b.*\):", file.read_text(), re.MULTILINE)


def test_test_without_a_group_stays_with_its_file():
    assert group_of("tests/unit/schemas/test_urls.py::test_one[a::b]") == "tests/unit/schemas/test_urls.py"


def test_long_groups_come_first_unit_tests_last_and_the_others_are_mixed():
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    groups = sorted({group_of(file) for file in files}, key=place_of)
    units = [group for group in groups if group.startswith("tests/unit/")]
    assert groups[: len(FIRST)] == list(FIRST)
    assert groups[-len(units) :] == units
    mixed = groups[len(FIRST) : -len(units)]
    assert sorted(mixed) != mixed
    assert len(mixed) + len(FIRST) + len(units) == len(groups)
