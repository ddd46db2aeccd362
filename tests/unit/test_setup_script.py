import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "local" / "setup.sh"
NOBODY = 65534


@pytest.fixture
def programs(tmp_path):
    """A PATH with nothing but what the script itself runs."""
    for name in ("sh", "id", "tr"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


def pretend(programs, name, text):
    (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    (programs / name).chmod(0o755)


def run(path, *arguments, python="/bin/false"):
    """Run the script; with /bin/false for Python at least python3-venv is missing."""
    sh = shutil.which("sh")
    done = subprocess.run(  # noqa: S603 - our own script
        [sh, "-c", SCRIPT.read_text(), str(SCRIPT), *arguments],
        env={"PATH": str(path), "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


async def test_where_everything_is_there_it_does_nothing():
    process = await asyncio.create_subprocess_exec(
        "sh", str(SCRIPT), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=dict(os.environ)
    )
    assert ((await process.communicate())[0], process.returncode) == (b"", 0)


def test_without_apt_it_says_what_is_needed(programs):
    code, said = run(programs)
    assert code == 1
    assert "python3-venv" in said
    assert "no apt-get here" in said


def test_without_rights_it_says_what_to_run(programs):
    pretend(programs, "apt-get", "exit 0")
    (programs / "id").unlink()
    pretend(programs, "id", f"echo {NOBODY}")
    code, said = run(programs)
    assert code == 1
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends" in said
    assert "python3-venv" in said


def test_sudo_that_wants_no_password_is_used(programs):
    pretend(programs, "apt-get", "exit 0")
    (programs / "id").unlink()
    pretend(programs, "id", f"echo {NOBODY}")
    pretend(programs, "sudo", '[ "$2" = true ] || printf "%s " "$@"')
    code, said = run(programs)
    assert code == 0
    assert said.strip() == f"-n env PYTHON=/bin/false sh {SCRIPT}"


@pytest.mark.parametrize("package", ["prometheus", "chromium", "systemd", "procps"])
def test_what_only_tests_want(programs, package):
    assert package not in run(programs)[1]
    assert package in run(programs, "tests")[1]


def test_what_is_wanted_is_told_to_sudo_as_well(programs):
    pretend(programs, "apt-get", "exit 0")
    (programs / "id").unlink()
    pretend(programs, "id", f"echo {NOBODY}")
    pretend(programs, "sudo", '[ "$2" = true ] || printf "%s " "$@"')
    assert run(programs, "tests")[1].strip().endswith(f"sh {SCRIPT} tests")
