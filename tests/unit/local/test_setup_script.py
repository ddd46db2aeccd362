import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "local" / "setup.sh"
NOBODY_UID = 65534


@pytest.fixture
def programs(tmp_path):
    """A PATH that contains only the programs that the script itself runs."""
    for name in ("sh", "id", "tr"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


def fake_program(programs, name, text):
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


async def test_with_everything_installed_it_does_nothing():
    process = await asyncio.create_subprocess_exec(
        "sh", str(SCRIPT), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=dict(os.environ)
    )
    assert ((await process.communicate())[0], process.returncode) == (b"", 0)


def test_without_apt_it_names_the_missing_packages(programs):
    code, output = run(programs)
    assert code == 1
    assert "python3-venv" in output
    assert "apt-get was not found" in output


def test_without_root_it_prints_the_command_to_run(programs):
    fake_program(programs, "apt-get", "exit 0")
    (programs / "id").unlink()
    fake_program(programs, "id", f"echo {NOBODY_UID}")
    code, output = run(programs)
    assert code == 1
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends" in output
    assert "python3-venv" in output


def test_passwordless_sudo_is_used(programs):
    fake_program(programs, "apt-get", "exit 0")
    (programs / "id").unlink()
    fake_program(programs, "id", f"echo {NOBODY_UID}")
    fake_program(programs, "sudo", '[ "$2" = true ] || printf "%s " "$@"')
    code, output = run(programs)
    assert code == 0
    assert output.strip() == f"-n env PYTHON=/bin/false sh {SCRIPT}"


@pytest.mark.parametrize("package", ["prometheus", "chromium-headless-shell", "systemd", "procps", "curl"])
def test_packages_for_tests_are_installed_only_on_request(programs, package):
    assert package not in run(programs)[1]
    assert package in run(programs, "tests")[1]


def test_arguments_are_passed_on_to_sudo(programs):
    fake_program(programs, "apt-get", "exit 0")
    (programs / "id").unlink()
    fake_program(programs, "id", f"echo {NOBODY_UID}")
    fake_program(programs, "sudo", '[ "$2" = true ] || printf "%s " "$@"')
    assert run(programs, "tests")[1].strip().endswith(f"sh {SCRIPT} tests")
