"""The program of the fork server: it loads what all codec processes need, and they share its memory.

It decodes nothing and has one thread, since a fork copies only the thread that calls it. For each byte on its control
socket, with two file descriptors, it forks a process that answers the requests on the first. To the second it writes
the process id and, when the process has ended, its exit code. When its parent ends or closes the control socket, the
server and all its processes end.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import struct
from typing import BinaryIO, Final

from handlers.codec.framing import STARTED, frame, read_frame
from handlers.codec.sandbox import landlock, privileges

PRELOADED: Final = ("handlers.codec.decoder_main", "handlers.media.image")
"""The modules that are loaded before the first fork; `image` loads libvips."""
NUMBER: Final = struct.Struct("q")
"""The format of process ids and exit codes. A pipe writes these few bytes atomically."""
PARENT_CHECK_SECONDS: Final = 0.5
PR_SET_PDEATHSIG: Final = 1


def serve(control: int, parent: int) -> None:
    """Fork on request until the parent ends or closes the `control` socket; then kill all forked processes."""
    privileges.forbid_inspection()
    privileges.drop_capabilities()
    for signal_number in (signal.SIGINT, signal.SIGTERM):  # sent to the parent, which ends this process
        signal.signal(signal_number, signal.SIG_IGN)
    for module in PRELOADED:
        importlib.import_module(module)
    landlock.library_paths()  # found once for all processes
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only a signal with a handler wakes `select`
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    gc.freeze()  # otherwise the first collection in each process copies the shared pages
    children: dict[int, int] = {}
    with socket.socket(fileno=control) as requests:
        while os.getppid() == parent:  # a fork of the parent may hold the socket open after the parent has ended
            ready, _, _ = select.select([control, wake_read], [], [], PARENT_CHECK_SECONDS)
            if wake_read in ready:
                os.read(wake_read, 1 << 12)
                _report_ended(children)
            if control in ready:
                _, descriptors, _, _ = socket.recv_fds(requests, 1, 2)
                if not descriptors:
                    break
                work, status = descriptors
                _fork(work, status, children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _report_ended(children: dict[int, int]) -> None:
    """Report the exit code of each process that has ended. `children` maps process ids to status pipes."""
    for pid in list(children):
        ended, wait_status = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = children.pop(pid)
            _write_number(status, os.waitstatus_to_exitcode(wait_status))
            os.close(status)


def _write_number(descriptor: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the worker has closed its end
        os.write(descriptor, NUMBER.pack(number))


def _fork(work: int, status: int, children: dict[int, int]) -> None:
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # no memory, or too many processes; the worker sees that both ends are closed
        os.close(work)
        os.close(status)
        return
    if pid:
        os.close(work)
        children[pid] = status
        _write_number(status, pid)
        return
    code = 1
    try:
        _end_with_parent(server)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        privileges.keep_only(work)
        with open(work, "rb", closefd=False) as requests, open(work, "wb") as answers:
            _answer_requests(requests, answers)
        code = 0
    finally:  # this process must never continue as the server
        os._exit(code)


def _end_with_parent(parent: int) -> None:
    """Tell the kernel to kill this process when its parent ends, since a busy decoder would not notice that."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _answer_requests(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests one by one until the worker closes the connection."""
    from handlers.codec import decoder_main  # noqa: PLC0415 - the worker imports this module, too, without decoders

    with contextlib.suppress(ConnectionResetError):
        while (request := read_frame(requests)) is not None:
            answers.write(STARTED)
            answers.flush()
            answers.write(frame(decoder_main.answer(request)))
            answers.flush()
