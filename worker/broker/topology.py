"""The exchanges, queues and bindings on the broker. No other module declares them.

All queues are durable quorum queues. Work and retry queues dead-letter at least once (`x-dead-letter-strategy`), which
needs `reject-publish`, else RabbitMQ silently falls back to at most once.

RabbitMQ 4.0 gives a quorum queue without a delivery limit one of 20, so every queue that is consumed sets its own.
Since 4.3 `nack` with requeue no longer counts toward the limit and `reject` does: a message that cannot be settled is
rejected. Since 4.3 the consumer timeout cancels the consumer instead of closing the channel; aio-pika then consumes
again, and attempts end before it anyway (`Settings.attempt_seconds`). Transient queues that are not exclusive, global
prefetch and mirrored queues are refused by newer releases and not used. Celery's inboxes are durable classic queues, as
Celery declares them.
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
UNLIMITED: Final = 1_000_000_000
"""Delivery limit of the dead-letter queue: -1 drops messages on RabbitMQ 3.10, and without a limit 4.0 sets 20."""
MEMBERS: Final = {"x-quorum-initial-group-size": 5}
"""With this argument a new queue gets a member on each node of a cluster, at most five; without it at most three.

RabbitMQ (3.10 and 4.0) compares this argument when a queue is declared again, and queues of earlier releases do not
have it. Therefore it is used only if RABBITMQ_URL names more than three nodes, and existing queues are not changed.
"""
DEFAULT_MEMBERS: Final = 3
AT_LEAST_ONCE: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


class TopologyError(RuntimeError):
    """A queue or exchange exists with other arguments. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue, with the exchange and the routing key of its binding."""

    name: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    def with_members(self) -> "QueueSpec":
        """Return the same queue with the argument MEMBERS."""
        return replace(self, arguments=self.arguments | MEMBERS)


def retry_name(seconds: int) -> str:
    """Return the name of the exchange and of the queue that delay messages by this many seconds."""
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
    """Yield every queue: the work queues, a retry queue for each delay, and the dead-letter queue."""
    quorum = {"x-queue-type": "quorum"}
    for key in Queue:
        limits = {"x-delivery-limit": DELIVERY_LIMIT, "x-dead-letter-exchange": DEAD}
        yield QueueSpec(work_queue(key), WORK, key, quorum | limits | AT_LEAST_ONCE)
    for seconds in retry_delays:
        # Without a dead-letter routing key the message keeps its own, and so returns to its work queue.
        waiting = {"x-message-ttl": seconds * 1000, "x-dead-letter-exchange": WORK}
        yield QueueSpec(retry_name(seconds), retry_name(seconds), "", quorum | waiting | AT_LEAST_ONCE)
    yield QueueSpec(DEAD, DEAD, "", quorum | {"x-delivery-limit": UNLIMITED})


def work_queue(key: Queue) -> str:
    """Return the name of the work queue with this routing key."""
    return f"outlast.{key}"


async def declare(
    channel: AbstractChannel, retry_delays: Sequence[int], with_members: Collection[str] = ()
) -> dict[str, AbstractExchange]:
    """Declare all exchanges and queues, those named in `with_members` with MEMBERS; return the exchanges by name.

    Raises:
        TopologyError: a queue or exchange exists with other arguments.
    """
    name = ""
    try:
        declared = {}
        for name, kind in exchanges(retry_delays).items():
            declared[name] = await channel.declare_exchange(name, kind, durable=True)
        for spec in queues(retry_delays):
            name = spec.name
            arguments = (spec.with_members() if name in with_members else spec).arguments
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            await queue.bind(spec.exchange, spec.routing_key)
    except ChannelPreconditionFailed as error:
        raise _differs(name, error) from error
    return declared


def is_bound(exchange: str, routing_key: str) -> bool:
    """Return whether the topology has a queue for messages with this routing key on one of its exchanges."""
    return exchange != WORK or routing_key in set(Queue)


async def queues_to_declare_with_members(
    connection: AbstractConnection, retry_delays: Sequence[int], *, include_missing: bool
) -> frozenset[str]:
    """Return the names of the queues to declare with MEMBERS: those that have it; missing ones if `include_missing`.

    Raises:
        TopologyError: a queue exists with arguments that no release has declared.
    """
    with_members = set()
    for spec in queues(retry_delays):
        existing = await declared_as(connection, spec)
        if include_missing if existing is None else existing != spec:
            with_members.add(spec.name)
    return frozenset(with_members)


async def declared_as(connection: AbstractConnection, spec: QueueSpec) -> QueueSpec | None:
    """Return how an existing queue was declared: `spec`, or `spec` with MEMBERS. None: the queue does not exist.

    Raises:
        TopologyError: it exists with other arguments.
    """
    for variant in (spec, spec.with_members()):
        channel = await connection.channel()
        try:
            await channel.declare_queue(spec.name, passive=True)
            await channel.declare_queue(spec.name, durable=True, arguments=variant.arguments)
        except ChannelNotFoundEntity:
            return None
        except ChannelPreconditionFailed as error:
            differs = error
        else:
            await channel.close()
            return variant
    raise _differs(spec.name, differs) from differs


def _differs(name: str, error: Exception) -> TopologyError:
    return TopologyError(
        f"{name} exists on the broker with other arguments ({error}). Empty and delete it, or use another virtual "
        "host in RABBITMQ_URL."
    )
