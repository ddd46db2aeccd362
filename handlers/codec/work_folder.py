"""The work folder of one codec process: `in` has the file to decode, `out` the result.

The worker links the source into it before a request, and copies the result out of it afterwards. So a codec process
cannot reach the files of other processes, and cannot change a result after the worker has hashed it, although it may
still have its own file open. Large files are usually stored as they are, which needs no copy. The process does see each
file that it decodes, one after the other: with CODEC_MAX_TASKS=1 there is only one.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from handlers.errors import FileProcessingError, is_disk_full

RESULT_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Opening a result neither follows a link nor waits for the writer of a FIFO."""
COPY_BYTES: Final = 1024 * 1024
TARGET: Final = "prepared"


class InvalidResultError(ValueError):
    """The result of a codec process is not a regular file with one link, or cannot be opened."""


class WorkFolder:
    """The folder at `path`. `source` is the file to decode, `target` where the codec process writes its result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = path / "in" / "source"
        self.target = path / "out" / TARGET
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
            raise transfer_error("the file cannot be passed to a decoder", error) from error
        try:
            yield
        finally:
            for part in self._parts:
                _empty(part)

    def copy_result(self, target: Path, name: str = TARGET) -> None:
        """Copy the result of this name, if there is one, to `target`.

        Raises:
            InvalidResultError: it is not a regular file, or has another hard link.
            OSError: it cannot be copied.
        """
        try:
            descriptor = os.open(self.target.with_name(name), RESULT_FLAGS)
        except FileNotFoundError:
            return
        except OSError as error:
            raise InvalidResultError(f"its result cannot be opened: {error.strerror}") from None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            _check_regular(os.fstat(descriptor))
            result = stack.enter_context(open(descriptor, "rb", closefd=False))
            target.unlink(missing_ok=True)
            shutil.copyfileobj(result, stack.enter_context(target.open("xb")), COPY_BYTES)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def transfer_error(problem: str, error: OSError) -> FileProcessingError:
    """Return the error for a file that could not be put into a work folder, or taken out of one."""
    code = "disk_full" if is_disk_full(error) else "decoder_failed"
    return FileProcessingError(f"{problem}: {error.strerror}", code=code, retryable=True)


def _check_regular(found: os.stat_result) -> None:
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
    """Remove what is in a folder. The folder itself may be gone, if its process and the fork server were killed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry)  # noqa: PTH108 - building a Path takes longer than the call
