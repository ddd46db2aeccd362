"""The server that codec processes are forked from (handlers/codec/fork_main.py), seen from outside.

They are forked from a program of their own: not from this process, which has threads, and from none that imports the
caller's `__main__`, as Python's own fork server does, so that an unguarded script or standard input may use this too.
"""

import contextlib
import os
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Final

from handlers.codec.process import END_SECONDS, START_SECONDS, EndedError, Forked
from handlers.codec.request import InvalidAnswerError, Request
from handlers.errors import FileProcessingError

PROGRAM: Final = """import sys
control, parent, *sys.path = sys.argv[1:]
from handlers.codec.fork_main import serve
serve(int(control), int(parent))"""
ENVIRONMENT: Final = {
    "VIPS_CONCURRENCY": "1",  # the pool is the parallelism; more threads a picture gain nothing
    "VIPS_WARNING": "0",  # what matters is raised
    "MALLOC_ARENA_MAX": "1",  # a heap for each of libvips' threads doubles what a process keeps, and gains no time
}
"""What libraries read once, when they are loaded."""
PAUSE_SECONDS: Final = 0.5


class ForkServer:
    """The server's process; it ends with this object, and all that it forked with it."""

    def __init__(self) -> None:
        """Raise EndedError when it cannot be started."""
        paths = [path or str(Path.cwd()) for path in sys.path]
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno()), str(os.getpid()), *paths],
                    env=os.environ | ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        except OSError as error:
            raise EndedError(why=f"{type(error).__name__}: {error}") from None
        self.close = weakref.finalize(self, _end, self._process, self._control)

    @property
    def lives(self) -> bool:
        """Whether it can still fork."""
        return self._process.poll() is None

    def fork(self, start: Request[object]) -> Forked:
        """Start a process whose first request is `start`.

        Raises:
            EndedError: it cannot be started.
        """
        try:
            process = self._forked()
        except EndedError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PAUSE_SECONDS)  # a server that is going: the next try must find it gone
            raise
        try:
            process.call(start, START_SECONDS).result()
        except TimeoutError:
            process.end()
            raise EndedError(why=f"it did not start well: no answer in {START_SECONDS:g} s") from None
        except (FileProcessingError, InvalidAnswerError) as error:
            process.end()
            raise EndedError(why=f"it did not start well: {error}") from None
        return process

    def _forked(self) -> Forked:
        with contextlib.ExitStack() as passed, contextlib.ExitStack() as kept:
            try:
                told, tells = os.pipe()
                kept.callback(os.close, told)
                passed.callback(os.close, tells)
                work, theirs = socket.socketpair()
                kept.enter_context(work)
                passed.enter_context(theirs)
                socket.send_fds(self._control, [b"."], [theirs.fileno(), tells])
            except OSError as error:  # the server is gone, or we may open no more
                raise EndedError(why=f"{type(error).__name__}: {error}") from None
            kept.pop_all()
        return Forked(work, told)


def _end(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    control.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
