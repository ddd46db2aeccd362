"""Functions that act as a compromised decoder; tests call them in a codec process."""

import contextlib
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


def io_uring(_: int) -> int:
    """Create an io_uring, which can open sockets without the system call `socket`. Return the errno, 0 on success."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(IO_URING_SETUP, 8, ctypes.create_string_buffer(256)) < 0 else 0


def log_much(lines: int, characters: int) -> str:
    for _ in range(lines):
        logging.getLogger("hostile").log(logging.CRITICAL + 10, "%s", "\udcff\n" * characters)
    return "done"


def start(folder: str, limits: dict[str, Any]) -> None:
    """Start a codec process as usual, once this module is loaded: it could not be read afterwards."""
    from handlers.codec import decoder_main  # noqa: PLC0415 - for codec processes only

    decoder_main.start(folder, limits)


def start_without_sandbox(_: str, __: object) -> None:
    """Start a codec process without its limits."""


def leave_result(folder: str, *_: object) -> dict[str, str]:
    """Replace `prepare`: leave something else than a regular file as the result, as the source orders."""
    orders = json.loads(Path(folder, "in", "source").read_text())
    target = Path(folder, "out", "prepared")
    make = {
        "symlink": lambda: target.symlink_to(orders["path"]),
        "hard link": lambda: target.hardlink_to(orders["path"]),
        "FIFO": lambda: os.mkfifo(target),
        "folder": target.mkdir,
        "nothing": lambda: None,
    }
    make[orders["kind"]]()
    return {"file": "target", "content_type": "image/png"}


KEPT: list[int] = []


def keep_result(folder: str, *_: object) -> dict[str, str]:
    """Replace `prepare`: leave a result, and keep it open for writing."""
    KEPT.append(os.open(Path(folder, "out", "prepared"), os.O_RDWR | os.O_CREAT, 0o600))
    os.write(KEPT[0], b"what the worker has checked")
    return {"file": "target", "content_type": "image/png"}


def change_kept_result() -> int:
    """Change the bytes of the file that was kept open, but not their number; return how many were written."""
    return os.pwrite(KEPT[0], b"WHAT THE WORKER HAS CHECKED", 0)


def make_file(size: int) -> int:
    """Make a file of this many bytes in the work folder; return its size."""
    path = Path(os.environ["TMPDIR"]) / "file"
    try:
        with path.open("wb") as file:
            file.truncate(size)
        return path.stat().st_size
    finally:
        path.unlink()


SEEN_FILES: set[tuple[int, str]] = set()


def prepare_watched(folder: str, *arguments: Any) -> Any:
    """Prepare a file; collect the regular files that are open meanwhile."""
    from handlers.codec import decoder_main  # noqa: PLC0415 - for codec processes only

    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(0.002):
            for number in range(3, 64):
                with contextlib.suppress(OSError):
                    state = os.fstat(number)
                    if stat.S_ISREG(state.st_mode):
                        SEEN_FILES.add((state.st_dev, "unnamed" if state.st_nlink == 0 else "named"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return decoder_main.prepare(folder, *arguments)
    finally:
        is_done.set()
        thread.join()


def seen_files() -> list[tuple[int, str]]:
    """Return device and kind of the files that `prepare_watched` saw."""
    return sorted(SEEN_FILES)


def run_orders(folder: str, *_: object) -> Any:
    """Replace `prepare` by what the file orders, as if the file had taken over its decoder.

    The file is JSON. `raw`: bytes (hexadecimal) to write to the worker's connection. `then`: what follows ("exit",
    "close", "wait" or "return"). `result`: the value to return. `every`: send the bytes one at a time, with this many
    seconds between them. `late`: send the bytes after the result, when SIGUSR1 arrives.
    """
    orders = json.loads(Path(folder, "in", "source").read_text())
    Path(folder, "out", "prepared").write_bytes(b"a result")
    connection, raw, then = _connection(), bytes.fromhex(orders.get("raw", "")), orders.get("then", "return")
    if "late" in orders:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        threading.Thread(target=_send_late, args=(connection, raw), daemon=True).start()
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


def _send_late(connection: int, raw: bytes) -> None:
    signal.sigwait({signal.SIGUSR1})
    os.write(connection, raw)


def _connection() -> int:
    """Return the connection to the worker, the only socket of a codec process."""
    [descriptor] = [fd for fd in range(3, 256) if _is_socket(fd)]
    return descriptor


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
