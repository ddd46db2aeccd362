"""The connection to RabbitMQ, and publishing on it: persistent, mandatory, confirmed, limited in time."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Self

import structlog
from aio_pika import Connection, Message, RobustConnection
from aio_pika.abc import AbstractConnection, AbstractExchange, AbstractRobustChannel
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, PublishError
from yarl import URL

from schemas.jobs import Queue
from worker import topology, tracing
from worker.envelope import Envelope
from worker.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
RECONNECT_SECONDS = 1.0
BLOCKED_SECONDS = 0.05
ANOTHER_HEARTBEAT_SECONDS = 10
BROKER_ERRORS = (AMQPError, ChannelInvalidStateError, ConnectionError, RuntimeError, TimeoutError)
"""What aio-pika raises when connection or channel are not what they were."""
ENDED = "the connection ended before RabbitMQ answered"


class BrokerUnavailableError(RuntimeError):
    """The broker did not confirm in time; the message may or may not have arrived, so publish it again."""


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Tell the end of a connection from the cancelling of a task, around whatever waits for the broker.

    aiormq ends a wait on a connection that it gives up (one gone silent, say) with CancelledError, or with an Exception
    of no class of its own. A task that somebody did cancel is `cancelling`, and stays so here.

    Raises:
        BrokerUnavailableError: the connection ended.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailableError(ENDED) from None
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise BrokerUnavailableError(ENDED) from None


async def connected(url: URL, name: str) -> AbstractConnection:
    """Open a connection that does not heal itself. One that does not come about is closed, not left to its finalizer.

    Raises:
        AMQPError, ConnectionError, TimeoutError: the broker was not reached, or refused.
    """
    connection = Connection(url, client_properties={"connection_name": name})
    try:
        await connection.connect(timeout=10)
    except BaseException:
        await connection.close()
        raise
    return connection


class Broker:
    """One connection that heals itself, with one shared channel for publishing.

    `start` returns at once and connects in the background: a process must be able to start, and to say that it is not
    ready, while the broker is away.
    """

    def __init__(self, settings: Settings, metrics: Metrics, name: str) -> None:
        self._settings = settings
        self._metrics = metrics
        self._name = name
        self._connection: RobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        self._opening: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def start(self) -> None:
        """Begin to connect."""
        self._opening = asyncio.create_task(self._open(), name="broker")

    async def _open(self) -> None:
        """Connect and declare; whatever the broker does meanwhile, begin again until it holds.

        Raises:
            TopologyError: something stands on the broker in another form; only a person can mend that.
        """
        # Known to `aclose` before it is connected: only closing ends its attempts to connect.
        self._connection = RobustConnection(
            make_url(self._settings.rabbitmq_url.get_secret_value()),
            fail_fast=False,
            reconnect_interval=RECONNECT_SECONDS,
            client_properties={"connection_name": self._name},
        )
        await self._connection.connect(timeout=10)
        while not self._opened.is_set():
            try:
                with told_apart():
                    self._channel = await self.channel()
                    self._exchanges = await topology.declare(self._channel, self._settings.retry_delays)
                self._opened.set()
            except topology.TopologyError:
                raise
            except BROKER_ERRORS as error:
                log.warning("broker lost while declaring", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
        log.info("broker connected", name=self._name)

    async def channel(self) -> AbstractRobustChannel:
        """Open another channel; keep a reference to it, or it closes."""
        if self._connection is None:
            raise BrokerUnavailableError("the broker is not connected yet")
        channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        return channel

    async def opened(self) -> None:
        """Wait until the broker was reached and everything is declared; raise TopologyError when that cannot be."""
        if self._opening is None:
            raise RuntimeError("Broker.start was not called")
        await asyncio.shield(self._opening)

    @property
    def ready(self) -> bool:
        """Whether the broker is connected and everything declared."""
        connection = self._connection
        return self._opened.is_set() and connection is not None and connection.connected.is_set()

    async def problem(self) -> str | None:
        """Say why nothing can be published now; None when it can."""
        if not self.ready:
            return "not connected"
        connection = self._connection
        if connection is not None and connection.transport is not None:
            try:
                async with asyncio.timeout(BLOCKED_SECONDS):
                    await connection.transport.connection.ready()
            except TimeoutError:
                return "connected, but RabbitMQ takes no messages: look at its memory and disk alarms"
        return None

    async def another(self) -> AbstractConnection:
        """Open one more connection, which does not heal itself; close it. Raises one of BROKER_ERRORS."""
        url = make_url(self._settings.rabbitmq_url.get_secret_value()).update_query(heartbeat=ANOTHER_HEARTBEAT_SECONDS)
        return await connected(url, self._name)

    async def waiting(self, queue: str) -> int:
        """Return how many messages of a queue wait to be delivered. Raises BrokerUnavailableError."""
        try:
            with told_apart():
                async with asyncio.timeout(10), await self.another() as connection:
                    channel = await connection.channel()
                    declared = await channel.declare_queue(queue, passive=True)
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
        return declared.declaration_result.message_count or 0

    async def publish_job(self, envelope: Envelope, limit: float, queue: Queue | None = None) -> None:
        """Put a job on its work queue. Raises BrokerUnavailableError, or ValueError when it is too large."""
        key = queue or envelope.job.queue
        with tracing.publishing(topology.WORK, key, envelope.job.task_id):
            await self.publish(topology.WORK, key, envelope.traced().message(), limit)

    async def publish(
        self, exchange: str, routing_key: str, message: Message, limit: float, *, mandatory: bool = True
    ) -> None:
        """Publish and wait at most `limit` seconds for the broker's confirm; `mandatory`: and for a queue to take it.

        Raises:
            BrokerUnavailableError: no confirm in time, refused, or no queue took it.
        """
        started = time.perf_counter()
        try:
            with told_apart():
                async with asyncio.timeout(limit):
                    await self._opened.wait()
                    await self._exchanges[exchange].publish(message, routing_key, mandatory=mandatory)
        except PublishError as error:
            raise BrokerUnavailableError(f"no queue takes {routing_key!r} on {exchange}: {error}") from error
        except TimeoutError:
            raise BrokerUnavailableError(f"no confirm within {limit:g} s; look at RABBITMQ_URL and RabbitMQ") from None
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - started
        self._metrics.publish_duration.observe(seconds)
        if exchange == topology.WORK:
            self._metrics.jobs_published.labels(routing_key).inc()
        log.debug("published", exchange=exchange, routing_key=routing_key, seconds=round(seconds, 4))

    async def send(self, queue: str, message: Message, limit: float) -> None:
        """Put a message on a queue by its name, if there is such a queue. Raises BrokerUnavailableError."""
        if self._channel is None:
            raise BrokerUnavailableError("the broker is not connected yet")
        try:
            with told_apart():
                async with asyncio.timeout(limit):
                    await self._channel.default_exchange.publish(message, queue, mandatory=False)
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(f"{type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close the connection, also one that never came about."""
        if self._connection is not None:
            await self._connection.close()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
