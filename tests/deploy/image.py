"""The image as it is built, without Docker: the steps of deploy/Dockerfile, and a sandbox like the container's.

The paths of the image (/opt/outlast, /src) lie below a folder instead. pip's cache stays on, which changes what is
downloaded and not what is installed. The final stage's RUN installs Debian packages and the user: here the sandbox has
the machine's libmagic, and a uid without a name or a home.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import Dockerfile, read
from tests.deploy.layers import Layers, digest

ROOT = Path(__file__).parents[2]
SANDBOX = Path(__file__).with_name("image_sandbox.sh")
CACHE = "PIP_NO_CACHE_DIR"
STEPS_SECONDS = 600
PLAIN = {"PATH", "LANG", "SSL_CERT_FILE"}
"""Variables of ours that building inherits, beside pip's own (mirrors, certificates)."""


@dataclass(frozen=True)
class Image:
    """A built image: `tree` is what is copied into the final stage, `temp` the one place to write to."""

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
        """The writable place as the program sees it."""
        return "/tmp" if isolated() else str(self.temp)  # noqa: S108 - the image's TEMP_DIR

    def env(self) -> dict[str, str]:
        """The final stage's ENV."""
        places = {"/opt/outlast": str(self.tree), "/tmp": self.writable, "$PATH": os.defpath}  # noqa: S108
        env = self.dockerfile.final.env
        for here, there in places.items():
            env = {name: value.replace(here, there) for name, value in env.items()}
        return env

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` as the container would; without an argument its ENTRYPOINT."""
        words = [f"{name}={value}" for name, value in self.env().items()]
        user = self.dockerfile.final.last("USER") if isolated() else ""
        folders = [str(self.folder), str(self.base), self.writable, user]
        return ["sh", str(SANDBOX), *folders, "env", *words, *(argv or self.dockerfile.entrypoint)]


def isolated() -> bool:
    """Whether we may make a mount namespace and become another user; else only permissions make the tree read-only."""
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    attempt = ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return not subprocess.run(attempt, capture_output=True, check=False).returncode  # noqa: S603


def build(base: Path, folder: Path) -> Image:
    """Follow the build stage with the Python at `base` (its prefix). Raises CalledProcessError when a step fails.

    `folder` is used again: as Docker does, a step is skipped when it and all before it are those of the last build.
    """
    dockerfile = read()
    image = Image(dockerfile, base, folder)
    shutil.rmtree(image.temp, ignore_errors=True)
    image.temp.mkdir(parents=True)
    folder.chmod(0o755)
    shutil.rmtree(folder / "src", ignore_errors=True)
    env = building_environment(dockerfile, base, folder)
    where, key, done = folder, str(base), Layers(image.tree, folder / "layers")
    for keyword, text in dockerfile.build.instructions:
        step = text.replace("/opt/outlast", str(image.tree)).replace("/src", str(folder / "src"))
        key = hashlib.sha256(f"{key} {keyword} {step}".encode()).hexdigest()
        if keyword == "WORKDIR":
            where = Path(step)
            where.mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            copy(step, where)
            key = hashlib.sha256(f"{key} {digest(where)}".encode()).hexdigest()
        elif keyword == "RUN" and not done.has(key):
            subprocess.run(["sh", "-euc", step], cwd=where, env=env, check=True, timeout=STEPS_SECONDS)  # noqa: S603, S607
            done.keep(key)
    if not isolated():
        subprocess.run(["chmod", "-R", "a-w", str(image.tree)], check=True)  # noqa: S603, S607
    return image


def building_environment(dockerfile: Dockerfile, base: Path, folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name in PLAIN or name.startswith("PIP_")}
    env |= {name: value for name, value in dockerfile.build.env.items() if name != CACHE}
    env.pop("PIP_FIND_LINKS", None)  # packages of this machine's own
    return env | {"PATH": f"{base / 'bin'}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", str(folder))}


def copy(text: str, where: Path) -> None:
    """Carry out `COPY SOURCE... TARGET`, without what Dockerfile.dockerignore leaves out."""
    *sources, target = text.split()
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    left_out = [line for line in lines if re.match(r"[^#!*]", line)] + ["**/__pycache__", "**/.env"]
    for source in sources:
        there = where / target / (source if target.endswith("/") else "")
        if (ROOT / source).is_file():
            shutil.copy(ROOT / source, there)
            continue
        shutil.copytree(ROOT / source, there, ignore=shutil.ignore_patterns("__pycache__", ".env", "*.pyc"))
        for path in left_out:
            if path.startswith(f"{source}/"):
                shutil.rmtree(there / path.removeprefix(f"{source}/"), ignore_errors=True)
