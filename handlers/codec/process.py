"""A codec process as the worker sees it: it gets requests, one at a time, and is ended."""

import contextlib
import os
import signal
import socket
import threading
import weakref
from typing import Final, TypeVar

from handlers.codec.channel import Channel, is_readable
from handlers.codec.fork_main import NUMBER
from handlers.codec.request import Answer, Request

T = TypeVar("T")

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
        self._channel, self._told = Channel(work), told
        self._close = weakref.finalize(self, _close, work, told)
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
        return not self._close.alive or is_readable(self._told, 0)

    @property
    def is_usable(self) -> bool:
        """Whether it can take a request: it has not ended, and has sent nothing since its last answer."""
        return not self.has_ended and self._channel.is_quiet

    def call(self, request: Request[T], seconds: float) -> Answer[T]:
        """Send a request and return its answer, checked.

        Raises:
            TimeoutError: there is no whole answer after `seconds`.
            EndedError: the process ended before its answer.
            InvalidAnswerError: it sent something else than an answer, or a part of one. End it: what it sends next may
                belong to this request.
        """
        has_begun = False
        try:
            self._channel.send(request.content(), seconds)
            has_begun = self._channel.begins()
            content = self._channel.answer()
        except TimeoutError:
            raise
        except OSError:
            content = b""
        if not content:
            raise EndedError(self.end(), has_begun=has_begun)
        answer = request.answer(content)
        self.answers += 1
        return answer

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
        is_readable(self._told, END_SECONDS)  # a `kill` need not wait with us
        with self._ending:
            exitcode = _number(self._told, 0)
            if exitcode is None:  # an orphan of the server's: ours to collect if we are a container's first process
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
            self._close()
            return exitcode


def _number(told: int, seconds: float) -> int | None:
    """Read what the server has to say of a process; None when it says nothing more."""
    content = os.read(told, NUMBER.size) if is_readable(told, seconds) else b""
    return int(NUMBER.unpack(content)[0]) if content else None


def _close(work: socket.socket, told: int) -> None:
    os.close(told)
    work.close()
