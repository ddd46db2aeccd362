"""The connection to RabbitMQ: connects, reconnects, declares the topology, publishes with a time limit."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Self

import structlog
from aio_pika import Channel, Message, RobustConnection
from aio_pika.abc import AbstractConnection, AbstractRobustChannel
from aio_pika.exceptions import ChannelInvalidStateError

from schemas.jobs import Queue
from worker.broker import topology
from worker.broker.address import host_port
from worker.broker.connect_failure import ConnectFailure, explain
from worker.broker.envelope import Envelope
from worker.broker.errors import BROKER_ERRORS, BrokerUnavailableError, error_text, translate_broker_errors
from worker.broker.nodes import Nodes, connect
from worker.broker.publish_channel import PublishChannel
from worker.broker.publisher import Publisher
from worker.broker.topology_declare import AnyChannel, declare_on_new_channel, find_missing
from worker.broker.topology_watch import TopologyWatch
from worker.observability import tracing
from worker.observability.metrics import Metrics
from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)
RECONNECT_SECONDS: Final = 1.0
BLOCKED_SECONDS: Final = 0.05
"""Time limit for a connection to accept a write. A longer wait means that RabbitMQ has blocked the connection."""
COUNT_SECONDS: Final = 10.0


class Broker:
    """One connection that reconnects by itself, with one channel that all publishers share.

    `start` returns at once and connects in the background, so that a process can start, and report that it is not
    ready, while RabbitMQ is unavailable.
    """

    def __init__(self, settings: Settings, metrics: Metrics, name: str) -> None:
        self._settings = settings
        self._name = name
        self._nodes = Nodes.from_settings(settings)
        self._reason: ConnectFailure | None = None
        self._connection: RobustConnection | None = None
        self._channel = PublishChannel(self.channel)
        self._exchanges: frozenset[str] = frozenset()
        self.consumer_cancelled = asyncio.Event()
        """Set when RabbitMQ cancels a consumer of one of the channels, and when something was declared again.

        RabbitMQ does not always report to a consumer that its queue was deleted.
        """
        self._watch = TopologyWatch(self._find_missing, self._declare_again)
        self._watching: asyncio.Task[None] | None = None
        self._publisher = Publisher(self._ready_channel, self._watch.check, self._channel.replace, metrics)
        self._opening: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def start(self) -> None:
        """Start connecting in the background."""
        self._opening = asyncio.create_task(self._open(), name="broker")

    async def _open(self) -> None:
        """Connect and declare the topology; repeat both until they succeed.

        Raises:
            TopologyError: a queue or exchange exists with other arguments. Repeating cannot correct that.
        """
        connection = RobustConnection(
            self._nodes.url,
            fail_fast=False,
            reconnect_interval=RECONNECT_SECONDS,
            client_properties={"connection_name": self._name},
        )
        connection.kwargs["transport_factory"] = self._nodes
        connection.close_callbacks.add(self._on_failure)
        connection.reconnect_callbacks.add(self._on_connected)
        # Set before it is connected, so that `aclose` can end its attempts to connect.
        self._connection = connection
        await connection.connect(timeout=self._nodes.connect_seconds)
        while not self._opened.is_set():
            try:
                with translate_broker_errors():
                    self._channel.current, names = await self._declare_on(self.channel)
                self._exchanges = frozenset(names)
                self._opened.set()
            except topology.TopologyError:
                raise
            except BROKER_ERRORS as error:
                if connection.close_called:  # by `aclose`: a command can end before its queues are declared
                    return
                log.warning("connection lost while declaring queues", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
        self._on_connected(connection)
        self._watching = asyncio.create_task(self._watch.run(), name="topology")

    async def _declare_on(
        self, open_channel: Callable[[], Awaitable[AnyChannel]]
    ) -> tuple[AnyChannel, Collection[str]]:
        large = len(self._nodes) > topology.DEFAULT_MEMBERS
        return await declare_on_new_channel(
            open_channel, self.open_connection, self._settings.retry_delays, large=large
        )

    async def _declare_again(self) -> None:
        channel, _ = await self._declare_on(self._plain_channel)
        await channel.close()
        self.consumer_cancelled.set()

    async def _find_missing(self) -> str | None:
        channel = await self._plain_channel()
        try:
            missing = await find_missing(channel, self._settings.retry_delays)
        finally:
            await channel.close()
        if missing is None and self._channel.current is not None:
            # Only acts if aio-pika could not reopen the channel while something was missing.
            await self._channel.current.restore()
        return missing

    def _on_connected(self, _: object) -> None:
        self._nodes.mark_connected()
        self._reason = None
        log.info("broker connected", name=self._name, node=host_port(self._nodes.last))

    def _on_failure(self, _: object, error: BaseException | None) -> None:
        """Keep the reason why the connection ended or failed; log it if it is not the same as before."""
        reason = explain(error or ConnectionError("closed"), self._nodes.last)
        if self._connection is None or self._connection.close_called or reason == self._reason:
            return
        self._reason = reason
        log.warning("broker not connected", name=self._name, reason=reason.problem, remedy=reason.remedy)

    async def channel(self) -> AbstractRobustChannel:
        """Open another channel. Keep a reference to it: aio-pika closes a channel that is garbage-collected."""
        if self._connection is None:
            raise BrokerUnavailableError("the broker is not connected yet")
        channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        channel.reopen_callbacks.add(self._watch_consumers)
        await self._watch_consumers(channel)
        return channel

    async def _plain_channel(self) -> Channel:
        """Open a channel that is not opened again when it closes."""
        if self._connection is None:
            raise BrokerUnavailableError("the broker is not connected yet")
        channel = Channel(self._connection, publisher_confirms=False)
        await channel.initialize()
        return channel

    async def _watch_consumers(self, channel: AbstractRobustChannel | None, *_: object) -> None:
        """From now on, check the topology when RabbitMQ cancels a consumer of the channel: its queue may be deleted."""
        if channel is not None:
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(self._on_consumer_cancelled)

    def _on_consumer_cancelled(self, _: object) -> None:
        self._watch.suspect()
        self.consumer_cancelled.set()

    async def repair_topology(self) -> bool:
        """Declare missing queues and exchanges again; return whether none is missing now."""
        return await self._watch.check()

    async def _ready_channel(self) -> AbstractRobustChannel:
        """Wait until the topology is declared and the channel is open, and return it."""
        await self._opened.wait()
        channel = self._channel.current
        if channel is None:
            raise ChannelInvalidStateError("the channel was never opened")
        await channel.ready()
        return channel

    async def wait_ready(self) -> None:
        """Wait until the broker is connected and the topology declared. Raises TopologyError."""
        if self._opening is None:
            raise RuntimeError("Broker.start was not called")
        await asyncio.shield(self._opening)

    @property
    def ready(self) -> bool:
        """Whether the broker is connected and the topology declared."""
        connection = self._connection
        return self._opened.is_set() and connection is not None and connection.connected.is_set()

    async def problem(self) -> str | None:
        """Return why messages cannot be published now, or None if they can."""
        if not self.ready:
            return f"not connected: {self._reason}" if self._reason else "not connected"
        connection = self._connection
        if connection is not None and connection.transport is not None:
            try:
                async with asyncio.timeout(BLOCKED_SECONDS):
                    await connection.transport.connection.ready()
            except TimeoutError:
                return "connected, but RabbitMQ accepts no messages: check its memory and disk alarms"
        return await self._watch.recent_problem()

    async def open_connection(self) -> AbstractConnection:
        """Open another connection, which does not reconnect. The caller closes it. Raises one of BROKER_ERRORS."""
        return await connect(self._nodes, self._name)

    async def count_waiting(self, queue: str) -> int:
        """Return the number of messages in a queue that are not yet delivered. Raises BrokerUnavailableError."""
        try:
            with translate_broker_errors():
                async with asyncio.timeout(COUNT_SECONDS), await self.open_connection() as connection:
                    channel = await connection.channel()
                    declared = await channel.declare_queue(queue, passive=True)
        except BROKER_ERRORS as error:
            raise BrokerUnavailableError(error_text(error)) from error
        return declared.declaration_result.message_count or 0

    async def publish_job(self, envelope: Envelope, limit: float, queue: Queue | None = None) -> None:
        """Publish a job to its work queue, or to `queue`.

        Raises:
            BrokerUnavailableError: the job was not confirmed within `limit` seconds.
            ValueError: the job is too large for a message.
        """
        key = queue or envelope.job.queue
        with tracing.publish_span(topology.WORK, key, envelope.job.task_id):
            await self._publisher.publish(topology.WORK, key, envelope.with_traceparent().message(), limit)

    async def publish(
        self, exchange: str, routing_key: str, message: Message, limit: float, *, mandatory: bool = True
    ) -> None:
        """Publish, and wait at most `limit` seconds for the confirm. `mandatory`: a queue must have received it.

        Raises:
            BrokerUnavailableError: no confirm in time, rejected, or routed to no queue.
            KeyError: the topology has no such exchange.
        """
        if exchange not in self._exchanges and self._opened.is_set():
            raise KeyError(exchange)  # RabbitMQ would close the channel
        await self._publisher.publish(exchange, routing_key, message, limit, mandatory=mandatory)

    async def send_to_queue(self, queue: str, message: Message, limit: float) -> None:
        """Publish to a queue by its name. A message without a queue is dropped. Raises BrokerUnavailableError."""
        if self._channel.current is None:
            raise BrokerUnavailableError("the broker is not connected yet")
        await self._publisher.publish("", queue, message, limit, mandatory=False)

    async def aclose(self) -> None:
        """Close the connection, and end attempts to connect."""
        if self._connection is not None:
            await self._connection.close()
        for task in (self._opening, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._watch.aclose()
        await self._channel.aclose()
