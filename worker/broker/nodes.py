"""The nodes of a RabbitMQ cluster, and connecting to one of them.

The nodes are tried in random order, so that the clients of a cluster spread over it. The node that was used last is
tried first, and one that was connected to without success last.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final, Self

from aio_pika import Connection
from aio_pika.abc import AbstractConnection
from aiormq.connection import TransportFactory
from yarl import URL

from worker.broker.connect_failure import ConnectFailure, NodesUnreachableError, explain
from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.broker.tls import TLSFiles
from worker.settings import Settings

CONNECT_SECONDS: Final = 10.0
NODE_SECONDS: Final = 3.0
"""Longest time for TCP and TLS with one of several nodes: one that is gone without a word must not hold up the rest."""
HEARTBEAT_SECONDS: Final = 10
"""RabbitMQ's documentation ("Heartbeats") advises 5 to 20; aiormq's own default of 60 notices after three minutes."""


class Nodes(TransportFactory):
    """The nodes of one cluster. aiormq has it open the socket of every connection."""

    def __init__(self, urls: Sequence[URL], tls: TLSFiles) -> None:
        self._urls = tuple(urls)
        self._tls = tls
        self._last: URL | None = None
        self._works = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the nodes that RABBITMQ_URL names."""
        return cls(settings.rabbitmq_nodes, settings.rabbitmq_tls)

    @property
    def url(self) -> URL:
        """What aio-pika takes for the address: user, virtual host and options, which are the same for all nodes."""
        url = self._urls[0]
        return url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)

    @property
    def last(self) -> URL:
        """The node that was tried last."""
        return self._last or self._urls[0]

    @property
    def seconds(self) -> float:
        """Longest time one attempt may take, which tries every node."""
        return CONNECT_SECONDS + NODE_SECONDS * (len(self._urls) - 1)

    def __len__(self) -> int:
        return len(self._urls)

    def mark_connected(self) -> None:
        """Note that the connection to the last node works."""
        self._works = True

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ARG002, ANN401 - aiormq's
        """Connect to the first node that takes connections.

        Raises:
            NodesUnreachableError: none does.
        """
        provider = kwargs.pop("ssl_context_provider")
        reasons: list[ConnectFailure] = []
        for node in self._order():
            self._last, self._works = node, False
            try:
                if node.scheme == "amqps":
                    context = self._tls.context() if self._tls else await provider.get_context()
                    kwargs["ssl"] = context
                async with asyncio.timeout(NODE_SECONDS if len(self) > 1 else None):
                    return await asyncio.open_connection(node.host, node.port, **kwargs)
            except OSError as error:
                reasons.append(explain(error, node))
            except ValueError as error:  # of TLSFiles
                reasons.append(ConnectFailure(str(error), "correct the file or the setting"))
        raise NodesUnreachableError(reasons)

    def _order(self) -> list[URL]:
        others = [node for node in random.sample(self._urls, len(self)) if node != self._last]
        if self._last is None:
            return others
        return [self._last, *others] if self._works else [*others, self._last]


async def connect(nodes: Nodes, name: str) -> AbstractConnection:
    """Open a connection that does not reconnect. One that fails half-way is closed, not left to its finalizer.

    Raises:
        One of BROKER_ERRORS: no node was reached, or each refused; see `explain`.
    """
    for left in reversed(range(len(nodes))):
        connection = Connection(nodes.url, client_properties={"connection_name": name})
        connection.kwargs["transport_factory"] = nodes
        try:
            with translate_broker_errors():
                await connection.connect(timeout=nodes.seconds)
        except BROKER_ERRORS as error:
            await connection.close()
            if left == 0 or isinstance(error, NodesUnreachableError):
                raise
        except BaseException:
            await connection.close()
            raise
        else:
            nodes.mark_connected()
            return connection
    raise AssertionError("there is no node")
