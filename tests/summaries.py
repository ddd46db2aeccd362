"""pytest plugin: additional sections of the summary, from the reports that xdist's workers send to the main process."""

import pytest

from tests.deploy.conftest import can_use_namespaces

HEAD = (
    f"{'source':42} {'stored as':10} {'kB':>12}  {'SSIM':>6} {'ΔE 95%':>6} {'shift':>5} {'alpha':>5}  "
    "upright timing  bounds"
)


def pytest_report_header() -> list[str]:
    if can_use_namespaces():
        return []
    return ["the installation on a single machine is left out: it needs root, and namespaces"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of image fidelity with one row for each test that recorded one."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [value for report in reports for name, value in report.user_properties if name == "fidelity"]
    if not lines:
        return
    from tests.fidelity.rows import ALL  # noqa: PLC0415 - imports NumPy and three picture libraries

    terminalreporter.section("fidelity of images")
    for line in [HEAD, *sorted(map(str, lines))]:
        terminalreporter.write_line(line)
    terminalreporter.write_line("Bounds (what is measured: tests/fidelity/distance.py):")
    for bounds in ALL:
        figures = f"SSIM >= {bounds.ssim}, ΔE <= {bounds.delta_e}, shift <= {bounds.shift}"
        terminalreporter.write_line(f"  {bounds.name:12} {figures:42} {bounds.why}")
