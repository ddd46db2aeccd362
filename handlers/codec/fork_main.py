"""The program that codec processes are forked from: what they all need is loaded once, and they share its memory.

It decodes nothing and has a single thread, since a fork takes along no other. For each byte that comes on its control
socket, with two descriptors, it forks a process that works for whoever holds the other end of the first; to the second
it writes that process' id and, when it has ended, how. When its parent ends, or lets go of the control socket, it ends,
and with it all that it forked.
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
import traceback
from typing import BinaryIO, Final

from handlers.codec.framing import BEGUN, frame, read_frame

LOADED: Final = ("handlers.codec.decoder_main", "handlers.media.image")
"""What is loaded before the first fork; `image` brings libvips."""
NUMBER: Final = struct.Struct("q")
"""How ids and ends of processes are written; as a pipe's writes they are never torn."""
PARENT_CHECK_SECONDS: Final = 0.5
PR_SET_PDEATHSIG: Final = 1


def serve(control: int, parent: int) -> None:
    """Fork when asked to, until the parent is gone; then end what was forked."""
    for sign in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends us in order
        signal.signal(sign, signal.SIG_IGN)
    for module in LOADED:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that it wakes us
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    gc.freeze()  # else the first collection in each process would copy the pages it marks
    forked: dict[int, int] = {}
    with socket.socket(fileno=control) as asking:
        while os.getppid() == parent:  # it may have forked: then the socket is not closed when it ends
            ready, _, _ = select.select([control, woken], [], [], PARENT_CHECK_SECONDS)
            if woken in ready:
                os.read(woken, 1 << 12)
                _collect(forked)
            if control in ready:
                _, given, _, _ = socket.recv_fds(asking, 1, 2)
                if not given:
                    break
                work, told = given
                _fork(work, told, forked, [control, woken, wake])
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
    for pid in forked:
        os.waitpid(pid, 0)


def _collect(forked: dict[int, int]) -> None:
    """Tell of each process that ended how it did."""
    for pid in list(forked):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            told = forked.pop(pid)
            _tell(told, os.waitstatus_to_exitcode(status))
            os.close(told)


def _tell(to: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(to, NUMBER.pack(number))


def _fork(work: int, told: int, forked: dict[int, int], ours: list[int]) -> None:
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # no memory, or too many processes; whoever asked sees both ends close
        os.close(work)
        os.close(told)
        return
    if pid:
        os.close(work)
        forked[pid] = told
        _tell(told, pid)
        return
    code = 1
    try:
        _end_with(server)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in [*ours, told, *forked.values()]:
            os.close(descriptor)
        with open(work, "rb", closefd=False) as requests, open(work, "wb") as answers:
            _work(requests, answers)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of this process may run on as the server
        traceback.print_exc()
    finally:
        os._exit(code)


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent: a busy decoder would not notice by itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _work(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer one request after the other, until the worker closes the connection."""
    from handlers.codec import decoder_main  # noqa: PLC0415 - loaded by the server, not by a worker that imports this module

    with contextlib.suppress(ConnectionResetError):
        while (request := read_frame(requests)) is not None:
            answers.write(BEGUN)
            answers.flush()
            answers.write(frame(decoder_main.answer(request)))
            answers.flush()
