"""The worker's side of the fork server (handlers/codec/fork_main.py), from which the codec processes are forked.

The fork server runs a program of its own, because the worker has threads and cannot be forked safely. Python's own fork
server is not used: it imports the caller's `__main__`, which fails for scripts without a guard and for programs on
standard input.
"""

import contextlib
import os
import socket
import subprocess
import sys
import weakref
from itertools import count
from pathlib import Path
from typing import Final

from handlers.codec.process import END_SECONDS, START_SECONDS, CodecProcess, ProcessEndedError
from handlers.codec.request import InvalidAnswerError, Request
from handlers.codec.sandbox.privileges import allowed_environment
from handlers.codec.work_folder import WorkFolder
from handlers.errors import FileProcessingError
from handlers.tempdirs import locked_folder, remove_tree

PROGRAM: Final = """import sys
control, parent, *sys.path = sys.argv[1:]
from handlers.codec.fork_main import serve
serve(int(control), int(parent))"""
ENVIRONMENT: Final = {
    "VIPS_CONCURRENCY": "1",  # the pool is the parallelism; more threads per image gain nothing
    "VIPS_WARNING": "0",  # relevant problems are raised as errors
    "MALLOC_ARENA_MAX": "1",  # a heap for each thread of libvips doubles the memory and saves no time
}
"""Variables that libraries read once, when they are loaded."""
PAUSE_SECONDS: Final = 0.5


class ForkServer:
    """The fork server's process. `close`, or garbage collection of this object, ends it and its codec processes.

    The work folders of the codec processes are in a new folder in `temp_dir`.
    """

    def __init__(self, temp_dir: Path) -> None:
        """Raise ProcessEndedError if it cannot be started."""
        paths = [path or str(Path.cwd()) for path in sys.path]
        folder = contextlib.ExitStack()
        try:
            self._folder = folder.enter_context(locked_folder(temp_dir))
            folder.callback(remove_tree, self._folder)
            self._control, child_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with child_control:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-P", "-c", PROGRAM, str(child_control.fileno()), str(os.getpid()), *paths],
                    env=allowed_environment(os.environ) | ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[child_control.fileno()],
                )
        except OSError as error:
            folder.close()
            raise ProcessEndedError(reason=f"{type(error).__name__}: {error}") from None
        self._numbers = count()
        self.close = weakref.finalize(self, _end, self._process, self._control, folder, os.getpid())

    @property
    def is_running(self) -> bool:
        """Whether the fork server's process has not ended."""
        return self._process.poll() is None

    def fork(self, start: Request[object]) -> CodecProcess:
        """Start a codec process, and return it when it has answered the request `start`.

        Raises:
            ProcessEndedError: it cannot be started, or does not answer `start` with a result.
        """
        try:
            process = self._fork()
        except ProcessEndedError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PAUSE_SECONDS)  # if the server is ending, the next try must not use it
            raise
        try:
            process.call(start, START_SECONDS).result()
        except TimeoutError:
            process.end()
            raise ProcessEndedError(reason=f"it did not start: no answer in {START_SECONDS:g} s") from None
        except (FileProcessingError, InvalidAnswerError) as error:
            process.end()
            raise ProcessEndedError(reason=f"it did not start: {error}") from None
        return process

    def _fork(self) -> CodecProcess:
        with contextlib.ExitStack() as passed, contextlib.ExitStack() as kept:
            try:
                status, child_status = os.pipe()
                kept.callback(os.close, status)
                passed.callback(os.close, child_status)
                work, child_work = socket.socketpair()
                kept.enter_context(work)
                passed.enter_context(child_work)
                folder = WorkFolder(self._folder / str(next(self._numbers)))
                folder.create()
                socket.send_fds(self._control, [b"."], [child_work.fileno(), child_status])
            except OSError as error:  # the server has ended, or this process has too many open files
                raise ProcessEndedError(reason=f"{type(error).__name__}: {error}") from None
            kept.pop_all()
        return CodecProcess(work, status, folder)


def _end(process: "subprocess.Popen[bytes]", control: socket.socket, folder: contextlib.ExitStack, owner: int) -> None:
    control.close()
    if os.getpid() != owner:  # a fork of the owner ends, not the owner
        return
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.close()
