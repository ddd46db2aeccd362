"""Builds the image without Docker: executes the steps of deploy/Dockerfile, and runs programs in a similar sandbox.

The image's paths (/opt/outlast, /src) are below a folder. pip's cache stays enabled, which does not change what is
installed. The final stage's RUN installs Debian packages and the user: the sandbox has this machine's libmagic instead,
and a uid without a name or home directory.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import Dockerfile, read
from tests.deploy.layers import LayerCache, digest

ROOT = Path(__file__).parents[2]
SANDBOX = Path(__file__).with_name("image_sandbox.sh")
NO_CACHE_VARIABLE = "PIP_NO_CACHE_DIR"
STEPS_SECONDS = 600
INHERITED = {"PATH", "LANG", "SSL_CERT_FILE"}
"""Environment variables that the build inherits, besides pip's (mirrors, certificates)."""


@dataclass(frozen=True)
class Image:
    """A built image: `tree` is copied into the final stage, `temp` is the only writable folder."""

    dockerfile: Dockerfile
    base: Path
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "opt/outlast"

    @property
    def temp(self) -> Path:
        return self.folder / "tmp"

    @property
    def writable(self) -> str:
        """The path of the writable folder inside the sandbox."""
        return "/tmp" if isolated() else str(self.temp)  # noqa: S108 - the image's TEMP_DIR

    def env(self) -> dict[str, str]:
        """The final stage's ENV."""
        paths = {"/opt/outlast": str(self.tree), "/tmp": self.writable, "$PATH": os.defpath}  # noqa: S108
        env = self.dockerfile.final.env
        for here, destination in paths.items():
            env = {name: value.replace(here, destination) for name, value in env.items()}
        return env

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs `argv`, by default the ENTRYPOINT, as in the container."""
        words = [f"{name}={value}" for name, value in self.env().items()]
        user = self.dockerfile.final.last("USER") if isolated() else ""
        folders = [str(self.folder), str(self.base), self.writable, user]
        return ["sh", str(SANDBOX), *folders, "env", *words, *(argv or self.dockerfile.entrypoint)]


def isolated() -> bool:
    """Whether mount namespaces and other users can be used; otherwise only permissions make the tree read-only."""
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    attempt = ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return not subprocess.run(attempt, capture_output=True, check=False).returncode  # noqa: S603


def build(base: Path, folder: Path) -> Image:
    """Execute the build stage with the Python at `base` (its prefix). Raises CalledProcessError if a step fails.

    `folder` is reused: as in Docker, a step is skipped if it and all steps before it are unchanged.
    """
    dockerfile = read()
    image = Image(dockerfile, base, folder)
    shutil.rmtree(image.temp, ignore_errors=True)
    image.temp.mkdir(parents=True)
    folder.chmod(0o755)
    shutil.rmtree(folder / "src", ignore_errors=True)
    env = build_environment(dockerfile, base, folder)
    where, key, layers = folder, str(base), LayerCache(image.tree, folder / "layers")
    for keyword, text in dockerfile.build.instructions:
        step = text.replace("/opt/outlast", str(image.tree)).replace("/src", str(folder / "src"))
        key = hashlib.sha256(f"{key} {keyword} {step}".encode()).hexdigest()
        if keyword == "WORKDIR":
            where = Path(step)
            where.mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            copy(step, where)
            key = hashlib.sha256(f"{key} {digest(where)}".encode()).hexdigest()
        elif keyword == "RUN" and not layers.restore(key):
            subprocess.run(["sh", "-euc", step], cwd=where, env=env, check=True, timeout=STEPS_SECONDS)  # noqa: S603, S607
            layers.store(key)
    if not isolated():
        subprocess.run(["chmod", "-R", "a-w", str(image.tree)], check=True)  # noqa: S603, S607
    return image


def build_environment(dockerfile: Dockerfile, base: Path, folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("PIP_")}
    env |= {name: value for name, value in dockerfile.build.env.items() if name != NO_CACHE_VARIABLE}
    env.pop("PIP_FIND_LINKS", None)  # packages of this machine
    return env | {"PATH": f"{base / 'bin'}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", str(folder))}


def copy(text: str, where: Path) -> None:
    """Execute `COPY SOURCE... TARGET`, without the paths that Dockerfile.dockerignore excludes."""
    *sources, target = text.split()
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    excluded = [line for line in lines if re.match(r"[^#!*]", line)] + ["**/__pycache__", "**/.env"]
    for source in sources:
        destination = where / target / (source if target.endswith("/") else "")
        if (ROOT / source).is_file():
            shutil.copy(ROOT / source, destination)
            continue
        shutil.copytree(ROOT / source, destination, ignore=shutil.ignore_patterns("__pycache__", ".env", "*.pyc"))
        for path in excluded:
            if path.startswith(f"{source}/"):
                shutil.rmtree(destination / path.removeprefix(f"{source}/"), ignore_errors=True)
