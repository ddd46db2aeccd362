"""The folder of one codec process, the only one that it may use: `in` has the file to decode, `out` the result.

The worker links the source into it before a request, and moves the result out of it afterwards. So a codec process
cannot reach the files of other processes. It does see each file that it decodes, one after the other: with
CODEC_MAX_TASKS=1 there is only one.
"""

import contextlib
import errno
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handlers.errors import FileProcessingError

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class InvalidResultError(ValueError):
    """A codec process left something else than a regular file as its result."""


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folder and its parts."""

    path: Path

    @property
    def source(self) -> Path:
        """The file to decode."""
        return self.path / "in" / "source"

    @property
    def target(self) -> Path:
        """Where the codec process writes its result."""
        return self.path / "out" / "prepared"

    def create(self) -> None:
        """Make the folder and its parts. Raises OSError."""
        for folder in (self.path, self.source.parent, self.target.parent):
            folder.mkdir(mode=0o700)

    @contextlib.contextmanager
    def holding(self, source: Path) -> Iterator[None]:
        """Have the source in the folder, and empty the folder at the end.

        Raises:
            FileProcessingError: the source cannot be put there.
        """
        try:
            _link_or_copy(source, self.source)
        except OSError as error:
            code = "disk_full" if error.errno in DISK_FULL else "decoder_failed"
            raise FileProcessingError(
                f"the file cannot be passed to a decoder: {error.strerror}", code=code, retryable=True
            ) from error
        try:
            yield
        finally:
            self.source.unlink(missing_ok=True)
            for path in (*_entries(self.source.parent), *_entries(self.target.parent)):
                _remove(path)

    def take(self, target: Path) -> None:
        """Move the result, if there is one, to `target`.

        Raises:
            InvalidResultError: it is not a regular file, or has a second name.
            OSError: it cannot be moved.
        """
        try:
            found = self.target.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise InvalidResultError("its result is not a regular file of its own")
        shutil.move(self.target, target)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """Link the file, which costs nothing; copy it from another file system, or where links are not permitted."""
    resolved = source.resolve(strict=True)
    try:
        target.hardlink_to(resolved)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(resolved, target)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # removed: its process and the fork server were killed
        return []


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
