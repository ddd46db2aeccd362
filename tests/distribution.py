"""pytest plugin: which tests xdist runs on one worker, and in which order.

The tests of a file stay together because of their module's fixtures. Files that share something for the whole session
or the whole machine form one group. Long groups start first, so that no worker ends with a long one alone. The others
are mixed, because those of a folder are alike: where all workers run tests that wait for a broker, the cores are idle.
"""

import hashlib
from pathlib import PurePosixPath

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

STACK = "one local stack"
BROWSER = "one browser"
ALONE = "one at a time"
GROUPS = {
    **{
        f"tests/e2e/test_{name}.py": STACK
        for name in (
            *(
                "api_snippets",
                "commands",
                "documents",
                "examples",
                "front_end",
                "generation_to_storage",
                "optimize",
                "secrets",
            ),
            *("serve", "try"),
        )
    },
    "tests/console": BROWSER,
    # Whole stacks under load, network namespaces, folders of the machine: one of these at a time.
    **dict.fromkeys(("tests/benchmarks", "tests/chaos", "tests/metrics", "tests/upgrade", "tests/suite"), ALONE),
    "tests/deploy/test_single_machine.py": ALONE,
    **dict.fromkeys(
        ("tests/hostile/test_dns_rebinding.py", "tests/hostile/test_redirects.py"), "one network namespace"
    ),
    "tests/hostile/test_internal_urls.py": "one network namespace",
}
FIRST = (
    "tests/pythons/test_pythons.py",
    "tests/deploy/test_image.py",
    ALONE,
    STACK,
    BROWSER,
    "tests/hostile/test_receiver_flood.py",
    "tests/broker/test_outages.py",
    "tests/broker/test_cluster.py",
    "tests/broker/test_publisher.py",
    "tests/hostile/test_decoder_crashes.py",
    "tests/hostile/test_bombs.py",
    "tests/fidelity/test_table.py",
    "tests/contracts/postgres/test_postgres_properties.py",
)
"""The longest groups, longest first."""


def group_of(nodeid: str) -> str:
    """Return the group of a test: the one in GROUPS for its file or folder, otherwise its file."""
    path = PurePosixPath(nodeid.partition("::")[0])
    return GROUPS.get(str(path)) or GROUPS.get(str(path.parent)) or str(path)


def place_of(group: str) -> tuple[int, str]:
    """Return the place of a group in the order. Unit tests, which are short, come last."""
    if group in FIRST:
        return FIRST.index(group), ""
    is_unit = group.startswith("tests/unit/")
    return len(FIRST) + is_unit, hashlib.sha256(group.encode()).hexdigest()


class Scheduling(LoadScopeScheduling):
    """Distributes groups in collection order."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    config.option.loadscopereorder = (
        False  # by default xdist starts with the groups that have most tests, not with the longest
    )
    return Scheduling(config, log)


SERVICES = {
    *("rabbitmq", "own_rabbitmq", "broker_of_stacks", "postgres", "stack"),
    *("chromium", "isolated_downloader", "run"),
}
"""Fixtures that start a server, a browser or a namespace."""
SLOW = {"codec", "samples"}
"""Fixtures that start codec processes, or encode all samples first."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by markers
def pytest_itemcollected(item: pytest.Item) -> None:
    used = set(getattr(item, "fixturenames", ()))
    if SERVICES & used:
        item.add_marker("service")
    if SLOW & used:
        item.add_marker("slow")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(group_of(item.nodeid)))
