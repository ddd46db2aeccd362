"""pytest plugin: which tests xdist gives to one worker together, and in which order.

The tests of a file stay together, for their module's fixtures. Files that share something for the whole session or the
whole machine form one group. Long groups come first, so that no worker ends with one alone.
"""

from pathlib import PurePosixPath

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

GROUPS: dict[str, str] = {}
FIRST: tuple[str, ...] = ()


def group_of(nodeid: str) -> str:
    """Return the group of a test: of tests/<folder>/<file>.py what GROUPS says, else the file."""
    path = PurePosixPath(nodeid.partition("::")[0])
    return GROUPS.get(str(path)) or GROUPS.get(str(path.parent)) or str(path)


class Scheduling(LoadScopeScheduling):
    """Distributes groups, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    config.option.loadscopereorder = False  # xdist would put the groups with most tests first, not the longest
    return Scheduling(config, log)


SERVICES = {"rabbitmq", "own_rabbitmq", "postgres", "stack", "chromium", "island", "run"}
"""Fixtures that start something slow beside Python."""


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_itemcollected(item: pytest.Item) -> None:
    if SERVICES & set(getattr(item, "fixturenames", ())):
        item.add_marker("service")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        rank = {name: place for place, name in enumerate(FIRST)}
        items.sort(key=lambda item: rank.get(group_of(item.nodeid), len(rank)))
