"""A layer cache like Docker's: a step is not executed again if its text and files are unchanged."""

import hashlib
import shutil
import subprocess
from pathlib import Path


class LayerCache:
    """Copies of the tree after each RUN, as hard links. They are kept between builds."""

    def __init__(self, tree: Path, cache: Path) -> None:
        self._tree, self._cache = tree, cache
        self._cache.mkdir(exist_ok=True)
        self._known = {path.name for path in self._cache.iterdir()}
        self._used: set[str] = set()

    def restore(self, key: str) -> bool:
        """Whether the step's result is cached; if so, the tree is replaced by it."""
        if key in self._known:
            replace(self._cache / key, self._tree)
            self._used.add(key)
            return True
        for name in self._known - self._used:  # all further steps differ from the last build
            remove(self._cache / name)
        self._known = set()
        return False

    def store(self, key: str) -> None:
        replace(self._tree, self._cache / key)


def replace(source: Path, target: Path) -> None:
    """Replace `target` by hard links to the files of `source`. Safe because no step changes a file in place."""
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", str(source), str(target)], check=True)  # noqa: S603, S607


def remove(tree: Path) -> None:
    if tree.exists():
        subprocess.run(["chmod", "-R", "u+w", str(tree)], check=True)  # noqa: S603, S607
        shutil.rmtree(tree)


def digest(folder: Path) -> str:
    """Return the hash of all files in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = b"".join(f"{path} ".encode() + hashlib.sha256(path.read_bytes()).digest() for path in files)
    return hashlib.sha256(content).hexdigest()
