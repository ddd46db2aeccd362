"""The worker's handle of a codec process: sends one request at a time, and can kill the process."""

import contextlib
import math
import os
import signal
import socket
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from handlers.codec.channel import Channel, is_readable
from handlers.codec.fork_main import NUMBER
from handlers.codec.request import Answer, InvalidAnswerError, Request
from handlers.codec.work_folder import TARGET, InvalidResultError, WorkFolder, transfer_error

T = TypeVar("T")

START_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0
NO_RESULTS: Final[Mapping[str, Path]] = {}


class ProcessEndedError(Exception):
    """A process ended, or was killed, before it answered.

    `exitcode` is as in `subprocess`, or None if the fork server ended too or the process never started.
    `has_started`: the process had started the request.
    """

    def __init__(self, exitcode: int | None = None, reason: str | None = None, *, has_started: bool = False) -> None:
        default = f"exit code {exitcode}" if exitcode is not None else "the fork server ended too"
        super().__init__(reason or default)
        self.exitcode = exitcode
        self.has_started = has_started

    @property
    def may_be_caused_by_request(self) -> bool:
        """Whether the request may be the cause: it had started, and the process did not end with its server."""
        return self.has_started and self.exitcode is not None


class RequestTimeoutError(TimeoutError):
    """A process did not answer in time. `cpu_seconds`: the processor time it had; NaN if that is not known."""

    def __init__(self, cpu_seconds: float) -> None:
        super().__init__(f"no answer in time, after {cpu_seconds:.1f} s of processor time")
        self.cpu_seconds = cpu_seconds


class CodecProcess:
    """A codec process. One thread at a time may use it; any thread may kill it.

    `work` is the connection for requests. `status` is the pipe on which the fork server reports the process id and,
    when the process has ended, its exit code. `folder` is the work folder of this process.
    """

    def __init__(self, work: socket.socket, status: int, folder: WorkFolder) -> None:
        """Raise ProcessEndedError if the fork server has ended or could not fork."""
        self.answers = 0
        self._folder = folder
        self._channel, self._status = Channel(work), status
        self._close = weakref.finalize(self, _close, work, status)
        self._kill_lock = threading.Lock()
        pid = _read_status(status, START_SECONDS)
        if pid is None:
            self._close()
            raise ProcessEndedError
        self.pid = pid

    @property
    def is_new(self) -> bool:
        """Whether it has answered at most its first request, which prepares it."""
        return self.answers <= 1

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return not self._close.alive or is_readable(self._status, 0)

    @property
    def is_usable(self) -> bool:
        """Whether it can take a request: it runs, and has sent nothing since its last answer."""
        return not self.has_ended and self._channel.is_idle

    def call(self, request: Request[T], seconds: float) -> Answer[T]:
        """Send a request and return its validated answer.

        Raises:
            RequestTimeoutError: there is no complete answer after `seconds`.
            ProcessEndedError: the process ended before it answered.
            InvalidAnswerError: the answer is not valid or not complete. End the process: what it sends next may belong
                to this request.
            FileProcessingError: the file cannot be passed to the process, or its result taken from it.
        """
        if request.files is None:
            return self._call(request, seconds)
        source, target = request.files
        with self._folder.holding(source):
            return self._call(request, seconds, {TARGET: target, **request.extra_files})

    def _call(self, request: Request[T], seconds: float, results: Mapping[str, Path] = NO_RESULTS) -> Answer[T]:
        has_started, cpu_before = False, _cpu_seconds(self.pid)
        try:
            self._channel.send(request.encode(self._folder.path), seconds)
            has_started = self._channel.wait_until_started()
            content = self._channel.read_answer()
        except TimeoutError:
            raise RequestTimeoutError(_cpu_seconds(self.pid) - cpu_before) from None
        except OSError:
            content = b""
        if not content:
            raise ProcessEndedError(self.end(), has_started=has_started)
        for name, target in results.items():
            self._take_result(target, name)
        answer = request.parse_answer(content)
        self.answers += 1
        return answer

    def _take_result(self, target: Path, name: str) -> None:
        try:
            self._folder.copy_result(target, name)
        except InvalidResultError as error:
            raise InvalidAnswerError(str(error)) from None
        except OSError as error:
            raise transfer_error("the result cannot be taken from a decoder", error) from error

    def kill(self) -> None:
        """Kill the process; a thread that waits for its answer gets ProcessEndedError."""
        with self._kill_lock:
            if not self.has_ended:
                with contextlib.suppress(ProcessLookupError):  # it has ended; the server will report it
                    os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int | None:
        """Kill the process, wait for its end, and return its exit code; None if the server does not report one."""
        self.kill()
        if not self._close.alive:
            return None
        is_readable(self._status, END_SECONDS)  # outside the lock, so that `kill` does not wait
        with self._kill_lock:
            exitcode = _read_status(self._status, 0)
            if exitcode is None:  # orphaned by its server; if we are a container's first process, it is our child now
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
            self._close()
            self._folder.remove()
            return exitcode


def _read_status(status: int, seconds: float) -> int | None:
    """Return the next number that the fork server reports about a process; None if none comes in this time."""
    content = os.read(status, NUMBER.size) if is_readable(status, seconds) else b""
    return int(NUMBER.unpack(content)[0]) if content else None


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process (proc_pid_stat(5): utime, stime); NaN if it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return math.nan


def _close(work: socket.socket, status: int) -> None:
    os.close(status)
    work.close()
