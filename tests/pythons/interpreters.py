"""The Python versions that Outlast supports, and where they are installed on this machine."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import read

ROOT = Path(__file__).parents[2]
CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)$")
CURRENT = "{}.{}".format(*sys.version_info)
"""The version that runs the whole test suite."""
VERSION_SCRIPT = "import sys; print(*sys.version_info[:3], sep='.'); print(sys.base_prefix)"


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter: its full version, its program, and its installation prefix."""

    version: str
    program: Path
    prefix: Path

    @property
    def minor(self) -> str:
        return minor_of(self.version)


def minor_of(version: str) -> str:
    return ".".join(version.split(".")[:2])


def supported_versions() -> list[str]:
    """Return the minor versions that pyproject.toml lists, in order."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [found[1] for line in classifiers if (found := CLASSIFIER.match(line))]


def image_minor() -> str:
    """Return the minor version of the image's Python."""
    return read().minor


@functools.cache
def find(minor: str) -> Interpreter | None:
    """Return an interpreter of this minor version from pyenv, uv or PATH; None if none works."""
    return next((found for program in candidates(minor) if (found := query(program)) and found.minor == minor), None)


def candidates(minor: str) -> list[Path]:
    name = f"python{minor}"
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    installed = [*pyenv.glob(f"versions/{minor}.*/bin/{name}"), *uv.glob(f"cpython-{minor}.*/bin/{name}")]
    on_path = shutil.which(name)
    system = Path("/usr/bin") / name
    return [*sorted(installed, reverse=True), *([Path(on_path)] if on_path else []), system]


def query(program: Path) -> Interpreter | None:
    """Return the interpreter of a program; None if it does not run, e.g. a pyenv shim of another version."""
    try:
        completed = subprocess.run(  # noqa: S603
            [program, "-c", VERSION_SCRIPT], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version, prefix = completed.stdout.splitlines()
    return Interpreter(version, program, Path(prefix))
