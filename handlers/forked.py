"""A codec process seen from outside: it is given calls, one at a time, and ended."""

import contextlib
import io
import os
import pickle
import select
import signal
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from handlers.answered import load
from handlers.media.server import BEGUN, NUMBER

START_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0


class EndedError(Exception):
    """A process ended before its answer: by itself, or by us.

    `exitcode` is as in `subprocess`, None when the server ended, too; `has_begun` is of the call.
    """

    def __init__(self, exitcode: int | None = None, why: str | None = None, *, has_begun: bool = False) -> None:
        known = f"exit code {exitcode}" if exitcode is not None else "the server it was forked from ended"
        super().__init__(why or known)
        self.exitcode = exitcode
        self.has_begun = has_begun

    @property
    def is_its_own(self) -> bool:
        """Whether the call may be why: it had begun, and the process did not end with its server."""
        return self.has_begun and self.exitcode is not None


class Forked:
    """A codec process. One thread at a time calls; any may kill."""

    def __init__(self, work: socket.socket, told: int) -> None:
        """Raise EndedError when there is no process: the server ended, or could not fork."""
        self.answers = 0
        self._work, self._file, self._told = work, work.makefile("rwb"), told
        self._close = weakref.finalize(self, _close, work, self._file, told)
        self._ending = threading.Lock()
        pid = _number(told, START_SECONDS)
        if pid is None:
            self._close()
            raise EndedError
        self.pid = pid

    @property
    def is_new(self) -> bool:
        """Whether it has done nothing yet but the call that prepared it."""
        return self.answers <= 1

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
        has_begun = False
        asked = pickle.dumps((function, args))
        self._work.settimeout(seconds)
        try:
            self._file.write(asked)
            self._file.flush()
            has_begun = self._file.read(1) == BEGUN
            is_well, answer = load(self._file)
        except TimeoutError:
            raise
        except (EOFError, OSError):
            raise EndedError(self.end(), has_begun=has_begun) from None
        except Exception as error:  # noqa: BLE001 - what is no pickle may raise anything
            raise EndedError(self.end(), f"its answer cannot be read: {error}", has_begun=has_begun) from None
        self.answers += 1
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
