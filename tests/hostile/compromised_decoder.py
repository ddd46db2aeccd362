"""What a decoder must not get away with: called in a codec process, by tests."""

import ctypes
import json
import logging
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

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


def log_much(lines: int, characters: int) -> str:
    for _ in range(lines):
        logging.getLogger("hostile").log(logging.CRITICAL + 10, "%s", "\udcff\n" * characters)
    return "done"


def taken_over(source: str, *_: object) -> Any:
    """Stand in for `prepare` as a decoder that the file has taken over: the file says what it sends and does.

    The file is JSON: `raw` bytes (hexadecimal) to write on the connection, `then` what follows ("exit", "close",
    "wait" or "return"), and the `result` to return. With `every` the bytes are sent one at a time, so many seconds
    apart; with `late` they are sent after the result, once the file of that name is there.
    """
    orders = json.loads(Path(source).read_text())
    connection, raw, then = _connection(), bytes.fromhex(orders.get("raw", "")), orders.get("then", "return")
    if "late" in orders:
        threading.Thread(target=_send_late, args=(connection, raw, Path(orders["late"])), daemon=True).start()
        return orders["result"]
    for start in range(len(raw)) if "every" in orders else [None]:
        os.write(connection, raw if start is None else raw[start : start + 1])
        time.sleep(orders.get("every", 0))
    if then == "exit":
        os._exit(0)
    if then == "close":
        os.close(connection)
    if then != "return":
        signal.pause()
    return orders.get("result")


def _send_late(connection: int, raw: bytes, file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    os.write(connection, raw)
    file.unlink()


def _connection() -> int:
    """Find the connection to the worker, the one socket of a codec process."""
    [found] = [fd for fd in range(3, 256) if _is_socket(fd)]
    return found


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
