"""Codec processes seen from outside: the server they are forked from (handlers/media/server.py), and each of them.

They are forked from a program of their own: not from this process, which has threads, and from none that imports the
caller's `__main__`, as Python's own fork server does, so that an unguarded script or standard input may use this too.
"""

import contextlib
import io
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from handlers.media.server import BEGUN, NUMBER

PROGRAM: Final = """import sys
control, parent, *sys.path = sys.argv[1:]
from handlers.media.server import serve
serve(int(control), int(parent))"""
ENVIRONMENT: Final = {
    "VIPS_CONCURRENCY": "1",  # the pool is the parallelism; more threads a picture gain nothing
    "VIPS_WARNING": "0",  # what matters is raised
    "MALLOC_ARENA_MAX": "1",  # a heap for each of libvips' threads doubles what a process keeps, and gains no time
}
"""What libraries read once, when they are loaded."""
START_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0


class EndedError(Exception):
    """A process ended before its answer: by itself, or by us.

    `exitcode` is as in `subprocess`, None where nobody knows; `has_begun` tells whether the call may be why.
    """

    def __init__(self, exitcode: int | None = None, why: str | None = None, *, has_begun: bool = False) -> None:
        known = f"exit code {exitcode}" if exitcode is not None else "the server it was forked from ended"
        super().__init__(why or known)
        self.exitcode = exitcode
        self.has_begun = has_begun


class Forked:
    """A codec process. One thread at a time calls; any may kill."""

    def __init__(self, work: socket.socket, told: int) -> None:
        """Raise EndedError when there is no process: the server ended, or could not fork."""
        self.calls = 0
        self._work, self._file, self._told = work, work.makefile("rwb"), told
        self._close = weakref.finalize(self, _close, work, self._file, told)
        self._ending = threading.Lock()
        pid = _number(told, START_SECONDS)
        if pid is None:
            self._close()
            raise EndedError
        self.pid = pid

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return not self._close.alive or _says_more(self._told, 0)

    def call(self, function: Callable[..., Any], args: tuple[object, ...], seconds: float) -> tuple[bool, Any]:
        """Call `function` there; return True and what it returned, or False and what it raised.

        Raises:
            TimeoutError: it takes longer than `seconds`.
            EndedError: the process ended meanwhile.
        """
        self.calls += 1
        has_begun = False
        asked = pickle.dumps((function, args))
        self._work.settimeout(seconds)
        try:
            self._file.write(asked)
            self._file.flush()
            has_begun = self._file.read(1) == BEGUN
            is_well, answer = pickle.load(self._file)  # noqa: S301 - from our own child
        except TimeoutError:
            raise
        except (EOFError, OSError, pickle.UnpicklingError):
            raise EndedError(self.end(), has_begun=has_begun) from None
        return is_well, answer

    def kill(self) -> None:
        """End the process; whoever waits for its answer gets EndedError."""
        with self._ending:
            if not self.has_ended:
                with contextlib.suppress(ProcessLookupError):  # it is gone, and we shall hear of it
                    os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int | None:
        """Kill it if it still runs, and return its exit code when it is gone; None if the server is, too."""
        self.kill()
        if not self._close.alive:
            return None
        _says_more(self._told, END_SECONDS)  # a `kill` need not wait with us
        with self._ending:
            exitcode = _number(self._told, 0)
            if exitcode is None:  # an orphan of the server's: ours to collect if we are a container's first process
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
            self._close()
            return exitcode


class ForkServer:
    """The server's process; it ends with this object, and all that it forked with it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            paths = [path or str(Path.cwd()) for path in sys.path]
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno()), str(os.getpid()), *paths],
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.close = weakref.finalize(self, _end, self._process, self._control)

    @property
    def lives(self) -> bool:
        """Whether it can still fork."""
        return self._process.poll() is None

    def fork(self, first: Callable[[], object]) -> Forked:
        """Start a process that calls `first`, then what it is asked to.

        Raises:
            EndedError: it cannot be started.
        """
        process = self._forked()
        try:
            is_well, answer = process.call(first, (), START_SECONDS)
        except TimeoutError:
            is_well, answer = False, f"no answer in {START_SECONDS:g} s"
        if not is_well:
            process.end()
            raise EndedError(why=f"it did not start well: {answer}")
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


def _says_more(told: int, seconds: float) -> bool:
    """Wait until the server has something to say of a process, or is gone."""
    poll = select.poll()  # `select` knows descriptors below 1024 only
    poll.register(told, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _number(told: int, seconds: float) -> int | None:
    """Read what the server has to say of a process; None when it says nothing more."""
    content = os.read(told, NUMBER.size) if _says_more(told, seconds) else b""
    return int(NUMBER.unpack(content)[0]) if content else None


def _close(work: socket.socket, file: io.BufferedIOBase, told: int) -> None:
    os.close(told)
    with contextlib.suppress(OSError):  # what was not sent
        file.close()
    work.close()


def _end(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    control.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
