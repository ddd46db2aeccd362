"""Layers, as Docker keeps them: a step whose text and files are those of the last build is not done again."""

import hashlib
import shutil
import subprocess
from pathlib import Path


class Layers:
    """What each RUN left in the tree, in hard links; kept from one build to the next."""

    def __init__(self, tree: Path, kept: Path) -> None:
        self._tree, self._kept = tree, kept
        self._kept.mkdir(exist_ok=True)
        self._known = {path.name for path in self._kept.iterdir()}
        self._used: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether a step was done before; then the tree is as it left it."""
        if key in self._known:
            replace(self._kept / key, self._tree)
            self._used.add(key)
            return True
        for name in self._known - self._used:  # of an earlier build, and all steps from here on are new
            remove(self._kept / name)
        self._known = set()
        return False

    def keep(self, key: str) -> None:
        replace(self._tree, self._kept / key)


def replace(source: Path, target: Path) -> None:
    """Make `target` what `source` is, in hard links: nothing here changes a file in its place."""
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", str(source), str(target)], check=True)  # noqa: S603, S607


def remove(tree: Path) -> None:
    if tree.exists():
        subprocess.run(["chmod", "-R", "u+w", str(tree)], check=True)  # noqa: S603, S607
        shutil.rmtree(tree)


def digest(folder: Path) -> str:
    """The content of all files below."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = b"".join(f"{path} ".encode() + hashlib.sha256(path.read_bytes()).digest() for path in files)
    return hashlib.sha256(content).hexdigest()
