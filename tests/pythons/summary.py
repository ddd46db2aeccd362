"""pytest hook: prints what the smokes measured, and which Pythons this machine lacks.

It reads the reports' properties, which reach the main process from xdist's workers too.
"""

import pytest

KEY = "pythons"
"""The property that a line of the summary is recorded as."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = {str(value) for report in reports for key, value in report.user_properties if key == KEY}
    if lines:
        terminalreporter.section("Pythons")
        for line in sorted(lines):
            terminalreporter.write_line(line)
