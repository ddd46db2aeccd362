"""What a decoder must not get away with: called in a codec process, by tests."""

import ctypes
import os
import socket
import threading

IO_URING_SETUP = 425


def socket_in_c(family: int) -> int:
    """Make a socket past Python; return the error's number, 0 if there is one now."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.socket(family, socket.SOCK_STREAM, 0) < 0 else 0


def socket_in_a_thread(family: int) -> int:
    told: list[int] = []
    thread = threading.Thread(target=lambda: told.append(socket_in_c(family)))
    thread.start()
    thread.join()
    return told[0]


def socket_in_a_child(family: int) -> int:
    child = os.fork()
    if child == 0:
        os._exit(socket_in_c(family))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ring(_: int) -> int:
    """Ask for an io_uring, whose sockets need no call of that name."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(IO_URING_SETUP, 8, ctypes.create_string_buffer(256)) < 0 else 0
