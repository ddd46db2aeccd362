"""Tables on terminals of several widths, and the options of `outlast` itself."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from worker.cli.main import app

PROGRAM = """
import json, sys
from worker.cli.printing import print_table
rows, columns, wide = json.loads(sys.argv[1])
print_table(rows, columns, wide=wide)
"""
ROW = (
    '{"id": "3f0c1c1e-1111-4c55-9b7d-0123456789ab", "failed_at": "2026-11-29T21:00:03Z", "code": "source_gone", '
    '"stage": null, "host": "v3.fal.media", "error": "the source answered 404 Not Found"}'
)
COLUMNS = '["id", "failed_at", "code", "stage", "host", "error"]'
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def print_on_terminal(columns, wide):
    """Return the lines that a terminal of this width shows."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-c", PROGRAM, f"[[{ROW}], {COLUMNS}, {wide}]"]
    subprocess.run(command, stdout=its, check=True, env=environment | {"TERM": "xterm"})  # noqa: S603 - this program
    os.close(its)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        written += piece
    os.close(ours)
    return STYLE.sub("", written.decode()).splitlines()


def test_a_table_that_is_wider_than_the_terminal_is_printed_as_blocks():
    lines = [line.rstrip() for line in print_on_terminal(80, "false")]
    assert lines == [
        "3f0c1c1e-1111-4c55-9b7d-0123456789ab",
        "  failed at 2026-11-29T21:00:03Z, code source_gone, host v3.fal.media",
        "  the source answered 404 Not Found",
    ]


@pytest.mark.parametrize(("columns", "wide"), [(160, "false"), (80, "true")])
def test_a_table_that_fits_or_is_asked_for_has_one_line_for_each_row(columns, wide):
    lines = print_on_terminal(columns, wide)
    names = [name.strip() for name in lines[1].strip("┃").split("┃")]
    assert names == ["id", "failed at", "code", "stage", "host", "error"]
    assert "source_gone" in lines[3]
    assert "the source answered 404 Not Found" in lines[3]
    assert len(lines) == 5


@pytest.mark.parametrize("arguments", [["--version"], ["-V"]])
def test_the_command_prints_its_version(arguments):
    assert CliRunner().invoke(app, arguments).stdout == f"outlast {version('outlast')}\n"


@pytest.mark.parametrize("arguments", [["-h"], ["dead", "list", "-h"]])
def test_h_prints_the_help(arguments):
    assert "Usage: " in CliRunner().invoke(app, arguments).stdout
