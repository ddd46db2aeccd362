"""pytest hook: prints the results of the smoke tests, and the Pythons that are not installed.

It reads the reports' properties, which xdist's workers pass to the main process.
"""

import pytest

KEY = "pythons"
"""The name of the property with a line of the summary."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = {str(value) for report in reports for key, value in report.user_properties if key == KEY}
    if lines:
        terminalreporter.section("Pythons")
        for line in sorted(lines):
            terminalreporter.write_line(line)
