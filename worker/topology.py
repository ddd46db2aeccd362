"""The topology on the broker: exchanges, queues and bindings. No other module declares any of them.

All queues are durable quorum queues. Work and retry queues dead-letter at least once (`x-dead-letter-strategy`), which
needs `reject-publish`, else RabbitMQ silently falls back to at most once.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from schemas.jobs import Queue

WORK: Final = "outlast"
DEAD: Final = "outlast.dead"
CONTROL: Final = "outlast.control"
DELIVERY_LIMIT: Final = 20
NEVER: Final = 1_000_000_000
"""Delivery limit of the dead letters: -1 drops messages on RabbitMQ 3.10, and none means 20 from 4.0 on."""
MEMBERS: Final = {"x-quorum-initial-group-size": 5}
"""A new queue gets a member on each node of a cluster, on five at most. RabbitMQ also compares this argument when a
queue is declared again, so queues of releases that did not set it are declared without it (see `unsized_queues`)."""
AT_LEAST_ONCE: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


class TopologyError(RuntimeError):
    """A queue or exchange exists with other arguments; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue, the exchange it hangs on and the key it is bound with."""

    name: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    def unsized(self) -> "QueueSpec":
        """Return it as releases before MEMBERS declared it."""
        return replace(self, arguments={key: self.arguments[key] for key in self.arguments if key not in MEMBERS})


def retry_name(seconds: int) -> str:
    """Return the name of the exchange, and of the queue, that holds messages for so many seconds."""
    return f"outlast.retry.{seconds}"


def exchanges(retry_delays: Sequence[int]) -> dict[str, ExchangeType]:
    """Return every exchange by name."""
    return {
        WORK: ExchangeType.DIRECT,
        DEAD: ExchangeType.FANOUT,
        CONTROL: ExchangeType.FANOUT,
        **{retry_name(seconds): ExchangeType.FANOUT for seconds in retry_delays},
    }


def queues(retry_delays: Sequence[int]) -> Iterator[QueueSpec]:
    """Yield every queue: the work queues, one waiting queue for each delay, and the dead letters."""
    quorum = {"x-queue-type": "quorum"} | MEMBERS
    for key in Queue:
        limits = {"x-delivery-limit": DELIVERY_LIMIT, "x-dead-letter-exchange": DEAD}
        yield QueueSpec(work_queue(key), WORK, key, quorum | limits | AT_LEAST_ONCE)
    for seconds in retry_delays:
        # No dead-letter routing key: the message keeps its own, and so returns to the queue it came from.
        waiting = {"x-message-ttl": seconds * 1000, "x-dead-letter-exchange": WORK}
        yield QueueSpec(retry_name(seconds), retry_name(seconds), "", quorum | waiting | AT_LEAST_ONCE)
    yield QueueSpec(DEAD, DEAD, "", quorum | {"x-delivery-limit": NEVER})


def work_queue(key: Queue) -> str:
    """Return the name of the queue behind a routing key."""
    return f"outlast.{key}"


async def declare(
    channel: AbstractChannel, retry_delays: Sequence[int], unsized: Collection[str] = ()
) -> dict[str, AbstractExchange]:
    """Declare everything, the queues of these names without MEMBERS; return the exchanges by name.

    Raises:
        TopologyError: something of that name exists with other arguments.
    """
    name = ""
    try:
        declared = {}
        for name, kind in exchanges(retry_delays).items():
            declared[name] = await channel.declare_exchange(name, kind, durable=True)
        for spec in queues(retry_delays):
            name = spec.name
            made = spec.unsized() if name in unsized else spec
            queue = await channel.declare_queue(name, durable=True, arguments=made.arguments)
            await queue.bind(spec.exchange, spec.routing_key)
    except ChannelPreconditionFailed as error:
        raise _differs(name, error) from error
    return declared


async def unsized_queues(connection: AbstractConnection, retry_delays: Sequence[int]) -> frozenset[str]:
    """Return the names of the existing queues that were declared without MEMBERS; change nothing.

    Raises:
        TopologyError: a queue exists with other arguments than any release has declared.
    """
    specs = queues(retry_delays)
    return frozenset({spec.name for spec in specs if await declared_as(connection, spec) == spec.unsized()})


async def declared_as(connection: AbstractConnection, spec: QueueSpec) -> QueueSpec | None:
    """Return the spec that an existing queue was declared by: this one, or this one unsized; None: no such queue.

    Raises:
        TopologyError: it exists with other arguments.
    """
    for form in (spec, spec.unsized()):
        channel = await connection.channel()
        try:
            await channel.declare_queue(spec.name, passive=True)
            await channel.declare_queue(spec.name, durable=True, arguments=form.arguments)
        except ChannelNotFoundEntity:
            return None
        except ChannelPreconditionFailed as error:
            differs = error
        else:
            await channel.close()
            return form
    raise _differs(spec.name, differs) from differs


def _differs(name: str, error: Exception) -> TopologyError:
    return TopologyError(
        f"{name} exists on the broker with other arguments ({error}). Empty and delete it, or use another virtual "
        "host in RABBITMQ_URL."
    )
