"""The nodes of a RabbitMQ cluster, and connecting to one of them.

The nodes are tried in random order, so that clients are distributed over the cluster. The node of the last successful
connection is tried first; a node whose connection failed is tried last.
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

BROKER_CONNECT_SECONDS: Final = 10.0
NODE_SECONDS: Final = 3.0
"""Time limit for TCP and TLS with one of several nodes. Then the next node is tried."""
HEARTBEAT_SECONDS: Final = 10
"""RabbitMQ's documentation ("Heartbeats") recommends 5 to 20. aiormq's default, 60, notices a loss after 180 s."""


class Nodes(TransportFactory):
    """The nodes of one cluster. aiormq calls `create` to open the socket of each connection."""

    def __init__(self, urls: Sequence[URL], tls: TLSFiles) -> None:
        self._urls = tuple(urls)
        self._tls = tls
        self._last: URL | None = None
        self._last_connected = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the nodes that RABBITMQ_URL names."""
        return cls(settings.rabbitmq_nodes, settings.rabbitmq_tls)

    @property
    def url(self) -> URL:
        """The address to give to aio-pika: user, virtual host and options, which are the same for all nodes."""
        url = self._urls[0]
        return url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)

    @property
    def last(self) -> URL:
        """The node that was tried last."""
        return self._last or self._urls[0]

    @property
    def connect_seconds(self) -> float:
        """Time limit for one attempt to connect, which tries every node."""
        return BROKER_CONNECT_SECONDS + NODE_SECONDS * (len(self._urls) - 1)

    def __len__(self) -> int:
        return len(self._urls)

    def mark_connected(self) -> None:
        """Record that the connection to the last node succeeded."""
        self._last_connected = True

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ARG002, ANN401 - aiormq's
        """Connect to the first node that accepts the connection.

        Raises:
            NodesUnreachableError: no node does.
        """
        provider = kwargs.pop("ssl_context_provider")
        failures: list[ConnectFailure] = []
        for node in self._order():
            self._last, self._last_connected = node, False
            try:
                if node.scheme == "amqps":
                    context = self._tls.context() if self._tls else await provider.get_context()
                    kwargs["ssl"] = context
                async with asyncio.timeout(NODE_SECONDS if len(self) > 1 else None):
                    return await asyncio.open_connection(node.host, node.port, **kwargs)
            except OSError as error:
                failures.append(explain(error, node))
            except ValueError as error:  # raised by TLSFiles
                failures.append(ConnectFailure(str(error), "correct the file or the setting"))
        raise NodesUnreachableError(failures)

    def _order(self) -> list[URL]:
        others = [node for node in random.sample(self._urls, len(self)) if node != self._last]
        if self._last is None:
            return others
        return [self._last, *others] if self._last_connected else [*others, self._last]


async def connect(nodes: Nodes, name: str) -> AbstractConnection:
    """Open a connection that does not reconnect. A connection that fails during the handshake is closed.

    Raises:
        One of BROKER_ERRORS: every node was unreachable or refused; see `explain`.
    """
    for nodes_left in reversed(range(len(nodes))):
        connection = Connection(nodes.url, client_properties={"connection_name": name})
        connection.kwargs["transport_factory"] = nodes
        try:
            with translate_broker_errors():
                await connection.connect(timeout=nodes.connect_seconds)
        except BROKER_ERRORS as error:
            await connection.close()
            if nodes_left == 0 or isinstance(error, NodesUnreachableError):
                raise
        except BaseException:
            await connection.close()
            raise
        else:
            nodes.mark_connected()
            return connection
    raise AssertionError("there is no node")
