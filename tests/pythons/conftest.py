"""Prints in pytest's summary what the smokes measured, and which Pythons this machine lacks."""

import pytest

from tests.pythons.interpreters import find, wanted

KEY = "pythons"
FOUND = {minor: found for minor in wanted() if (found := find(minor)) is not None}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = [str(value) for report in reports for key, value in getattr(report, "user_properties", ()) if key == KEY]
    if lines:
        terminalreporter.section("Pythons")
        for line in sorted(set(lines)):
            terminalreporter.write_line(line)
