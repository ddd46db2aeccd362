"""ARCHITECTURE.md lists the files whose functions receiver, worker and codec process really call for a webhook."""

import re

import pytest

from tests.architecture.trace import ROOT, first_entries, trace

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
ROW = re.compile(r"^\| (receiver|worker|codec) \| `([^`]+\.py)` \|", re.MULTILINE)
ALSO = re.compile(r"^- (receiver|worker|codec): ((?:`[^`]+\.py`,?\s*)+)$", re.MULTILINE)
pytestmark = pytest.mark.usefixtures("broker_of_stacks")


def described(page):
    """The process and file of each row of the table, in order."""
    return ROW.findall(page)


def described_as_entered_too(page):
    """The processes and files of the lists below the table."""
    return {(process, file) for process, files in ALSO.findall(page) for file in re.findall(r"`([^`]+)`", files)}


@pytest.fixture(scope="module")
async def entered(tmp_path_factory):
    return first_entries(await trace(tmp_path_factory.mktemp("walk")))


async def test_the_files_of_the_walk_are_entered_in_its_order(entered):
    walk = described(PAGE)
    assert len(walk) > 10
    assert [file for file in entered if file in walk] == walk


async def test_no_other_file_is_entered_than_the_page_lists(entered):
    listed = {*described(PAGE), *described_as_entered_too(PAGE)}
    assert sorted(set(entered) - listed) == [], "add these to the page, or let no webhook enter them"
    assert sorted(listed - set(entered)) == [], "remove these from the page: no webhook enters them any more"


def test_a_file_has_one_place_on_the_page():
    walk = described(PAGE)
    assert len(walk) == len(set(walk))
    assert not set(walk) & described_as_entered_too(PAGE)


def test_rows_and_lists_are_read_from_the_page():
    page = "| worker | `a/b.py` | does |\n| codec | `c.py` | does |\n\n- codec: `d.py`,\n  `e.py`\n- other: `f.py`\n"
    assert described(page) == [("worker", "a/b.py"), ("codec", "c.py")]
    assert described_as_entered_too(page) == {("codec", "d.py"), ("codec", "e.py")}


def test_every_file_on_the_page_exists():
    files = set(re.findall(r"`((?:schemas|handlers|worker|deploy|tests)/[^`]+\.py)`", PAGE))
    assert len(files) > 40
    assert sorted(file for file in files if not (ROOT / file).exists()) == []
