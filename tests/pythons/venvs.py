"""Creates a virtual environment for each Python from the lock files with uv, and again when they change."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.pythons.interpreters import ROOT, Interpreter

LOCKS = ("requirements.lock", "requirements-test.lock")
INSTALL_SECONDS = 900
STAMP = ".made-from"


def environment(interpreter: Interpreter) -> Path:
    """Return the folder of the interpreter's environment, `.venv-3.x` in the checkout. Raises CalledProcessError."""
    folder = ROOT / f".venv-{interpreter.minor}"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # concurrent runs create it once
        digest = input_digest(interpreter)
        stamp = folder / STAMP
        if not stamp.exists() or stamp.read_text() != digest:
            create(interpreter, folder)
            stamp.write_text(digest)
    return folder


def input_digest(interpreter: Interpreter) -> str:
    """Return a digest of the interpreter and the files that an environment is created from."""
    parts = [str(interpreter).encode(), *((ROOT / name).read_bytes() for name in (*LOCKS, "pyproject.toml"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def create(interpreter: Interpreter, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin/python")
    uv(("venv", "--python", str(interpreter.program), str(folder)))
    for name in LOCKS:  # separately, because uv requires equal hashes in one call
        uv(("pip", "install", "--python", python, "--require-hashes", "-r", name))
    uv(("pip", "install", "--python", python, "--no-deps", "--editable", "."))


def uv(arguments: tuple[str, ...]) -> None:
    program = Path(sys.executable).with_name("uv")
    uv_program = program if program.exists() else shutil.which("uv")
    if uv_program is None:
        raise FileNotFoundError("uv is missing: requirements-test.lock brings it (make setup-test)")
    env = {**os.environ, "UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "hardlink")}
    subprocess.run(  # noqa: S603 - fixed arguments
        [uv_program, "--quiet", "--no-progress", *arguments],
        cwd=ROOT,
        env=env,
        check=True,
        timeout=INSTALL_SECONDS,
    )
