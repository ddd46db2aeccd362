"""Which Pythons Outlast is for, and where this machine has them."""

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
OWN = "{}.{}".format(*sys.version_info)
"""The version that runs this, and with it the whole suite."""
VERSION_SCRIPT = "import sys; print(*sys.version_info[:3], sep='.'); print(sys.base_prefix)"


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs: its version in full, its program, and the prefix it was installed to."""

    version: str
    program: Path
    prefix: Path

    @property
    def minor(self) -> str:
        return minor_of(self.version)


def minor_of(version: str) -> str:
    return ".".join(version.split(".")[:2])


def wanted() -> list[str]:
    """The minor versions that pyproject.toml names, in order."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [found[1] for line in classifiers if (found := CLASSIFIER.match(line))]


def image_minor() -> str:
    """The version that the image has."""
    return read().minor


@functools.cache
def find(minor: str) -> Interpreter | None:
    """Return an interpreter of this minor version, from PATH, pyenv or uv; None: there is none that runs."""
    return next((found for program in candidates(minor) if (found := asked(program)) and found.minor == minor), None)


def candidates(minor: str) -> list[Path]:
    name = f"python{minor}"
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    kept = [*pyenv.glob(f"versions/{minor}.*/bin/{name}"), *uv.glob(f"cpython-{minor}.*/bin/{name}")]
    on_path = shutil.which(name)
    system = Path("/usr/bin") / name
    return [*sorted(kept, reverse=True), *([Path(on_path)] if on_path else []), system]


def asked(program: Path) -> Interpreter | None:
    """Ask a program what it is; None where it does not run, as pyenv's stand-ins for what is not chosen."""
    try:
        done = subprocess.run([program, "-c", VERSION_SCRIPT], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    version, prefix = done.stdout.splitlines()
    return Interpreter(version, program, Path(prefix))
