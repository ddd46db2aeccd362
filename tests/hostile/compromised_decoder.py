"""Functions that act as a compromised decoder; tests call them in a codec process."""

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
    """Create a socket with libc; return the errno, 0 on success."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.socket(family, socket.SOCK_STREAM, 0) < 0 else 0


def socket_in_a_thread(family: int) -> int:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(socket_in_c(family)))
    thread.start()
    thread.join()
    return results[0]


def socket_in_a_child(family: int) -> int:
    child = os.fork()
    if child == 0:
        os._exit(socket_in_c(family))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def io_uring(_: int) -> int:
    """Create an io_uring, which can open sockets without the system call `socket`. Return the errno, 0 on success."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(IO_URING_SETUP, 8, ctypes.create_string_buffer(256)) < 0 else 0


def log_much(lines: int, characters: int) -> str:
    for _ in range(lines):
        logging.getLogger("hostile").log(logging.CRITICAL + 10, "%s", "\udcff\n" * characters)
    return "done"


def run_orders(source: str, *_: object) -> Any:
    """Replace `prepare` by what the file orders, as if the file had taken over its decoder.

    The file is JSON. `raw`: bytes (hexadecimal) to write to the worker's connection. `then`: what follows ("exit",
    "close", "wait" or "return"). `result`: the value to return. `every`: send the bytes one at a time, with this many
    seconds between them. `late`: send the bytes after the result, when the file of this name exists.
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
    """Return the connection to the worker, the only socket of a codec process."""
    [descriptor] = [fd for fd in range(3, 256) if _is_socket(fd)]
    return descriptor


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
