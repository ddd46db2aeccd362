"""Addresses on which processes listen, and one on which none does."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import psutil


def listening_addresses(processes: Iterable[psutil.Process]) -> list[Any]:
    """Return address and port of each listening TCP socket. A process may end meanwhile, as RabbitMQ's helpers do."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.net_connections("tcp")
    return [one.laddr for one in found if one.status == psutil.CONN_LISTEN]


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections. No other process takes it: it is bound, but nothing listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
