import re
from pathlib import Path

import pytest

from worker.settings import Settings
from worker.settings_table import renewed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKE = (ROOT / "Makefile").read_text()


def test_the_table_of_settings_is_the_codes():
    assert renewed(README) == README, "run `make docs`"
    assert all(f"`{name.upper()}`" in README for name in Settings.model_fields)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_exists(page):
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)\b", (ROOT / page).read_text(), re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"^([a-z-]+):", MAKE, re.MULTILINE))


def test_every_file_contributors_are_sent_to_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [path for path in re.findall(r"`((?:handlers|worker|tests|deploy)/[\w/*.]+)`", text) if "/x.py" not in path]
    assert len(named) > 10
    assert [path for path in named if not list(ROOT.glob(path))] == []
