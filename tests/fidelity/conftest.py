"""The table of fidelity, filled row by row and shown at the end of every run."""

from collections.abc import AsyncIterator

import pytest

from handlers.codec import Codec
from handlers.settings import MediaSettings
from tests.fidelity.rows import ALL

LINES: list[str] = []
HEAD = (
    f"{'source':42} {'stored as':10} {'kB':>12}  {'SSIM':>6} {'ΔE 95%':>6} {'shift':>5} {'alpha':>5}  "
    "upright timing  bounds"
)


@pytest.fixture(scope="session")
def table() -> list[str]:
    return LINES


@pytest.fixture(scope="module")
async def codec() -> AsyncIterator[Codec]:
    codec = Codec(MediaSettings(codec_processes=2, max_image_pixels=5_000_000))
    yield codec
    await codec.aclose()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not LINES:
        return
    terminalreporter.section("fidelity of images")
    for line in [HEAD, *LINES]:
        terminalreporter.write_line(line)
    terminalreporter.write_line("Bounds (what is measured: tests/fidelity/measure.py):")
    for bounds in ALL:
        figures = f"SSIM >= {bounds.ssim}, ΔE <= {bounds.delta_e}, shift <= {bounds.shift}"
        terminalreporter.write_line(f"  {bounds.name:12} {figures:42} {bounds.why}")
