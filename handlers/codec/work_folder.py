"""The folder of one codec process, the only one that it may use: `in` has the file to decode, `out` the result.

The worker links the source into it before a request, and moves the result out of it afterwards. So a codec process
cannot reach the files of other processes. It does see each file that it decodes, one after the other: with
CODEC_MAX_TASKS=1 there is only one.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from handlers.errors import FileProcessingError, is_disk_full


class InvalidResultError(ValueError):
    """A codec process left something else than a regular file as its result."""


class WorkFolder:
    """The folder at `path`. `source` is the file to decode, `target` where the codec process writes its result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = path / "in" / "source"
        self.target = path / "out" / "prepared"
        self._parts = (str(self.source.parent), str(self.target.parent))

    def create(self) -> None:
        """Make the folder and its parts. Raises OSError."""
        for folder in (self.path, self.source.parent, self.target.parent):
            folder.mkdir(mode=0o700)

    @contextlib.contextmanager
    def holding(self, source: Path) -> Iterator[None]:
        """Put the source into the folder, and empty the folder when the context ends.

        Raises:
            FileProcessingError: the source cannot be put there.
        """
        try:
            _link_or_copy(source, self.source)
        except OSError as error:
            code = "disk_full" if is_disk_full(error) else "decoder_failed"
            raise FileProcessingError(
                f"the file cannot be passed to a decoder: {error.strerror}", code=code, retryable=True
            ) from error
        try:
            yield
        finally:
            for part in self._parts:
                _empty(part)

    def take(self, target: Path) -> None:
        """Move the result, if there is one, to `target`.

        Raises:
            InvalidResultError: it is not a regular file, or has a second name.
            OSError: it cannot be moved.
        """
        if not os.path.lexists(self.target):
            return
        _check_regular(self.target)
        try:
            self.target.replace(target)
        except OSError:  # another file system
            shutil.move(self.target, target)
        try:
            _check_regular(target)
        except InvalidResultError:  # the process has replaced it after the first check
            target.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _check_regular(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise InvalidResultError("its result is not a regular file of its own")


def _link_or_copy(source: Path, target: Path) -> None:
    """Link the file, which costs nothing; copy it from another file system, or where links are not permitted."""
    source = source.resolve(strict=True) if source.is_symlink() else source
    try:
        target.hardlink_to(source)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        shutil.copyfile(source, target)


def _empty(folder: str) -> None:
    """Remove what is in a folder, which may have been removed itself: its process and the fork server were killed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry)  # noqa: PTH108 - building a Path takes longer than the call
