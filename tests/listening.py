"""The addresses on which processes listen."""

import contextlib
from collections.abc import Iterable
from typing import Any

import psutil


def listening_addresses(processes: Iterable[psutil.Process]) -> list[Any]:
    """Return address and port of each listening TCP socket. A process may end meanwhile, as RabbitMQ's helpers do."""
    sockets = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            sockets += process.net_connections("tcp")
    return [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
