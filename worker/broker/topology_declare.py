"""Declares the topology with the arguments that its queues already have, and finds what is missing."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity

from worker.broker import topology

AnyChannel = TypeVar("AnyChannel", bound=AbstractChannel)


async def declare_on_new_channel(
    open_channel: Callable[[], Awaitable[AnyChannel]],
    open_connection: Callable[[], Awaitable[AbstractConnection]],
    retry_delays: Sequence[int],
    *,
    large: bool,
) -> tuple[AnyChannel, Collection[str]]:
    """Declare the topology; return the channel on which it was declared and the names of the exchanges.

    `large`: missing queues are declared with `topology.MEMBERS`, for a cluster of more than three nodes.

    Raises:
        TopologyError: a queue or exchange exists with other arguments.
    """
    with_members: Collection[str] = {spec.name for spec in topology.queues(retry_delays)} if large else ()
    channel = await open_channel()
    try:
        return channel, await topology.declare(channel, retry_delays, with_members)
    except topology.TopologyError:
        await channel.close()
    async with await open_connection() as connection:
        with_members = await topology.queues_to_declare_with_members(connection, retry_delays, include_missing=large)
    channel = await open_channel()
    return channel, await topology.declare(channel, retry_delays, with_members)


async def find_missing(channel: AbstractChannel, retry_delays: Sequence[int]) -> str | None:
    """Return the name of an exchange or queue that does not exist, or None; a missing one closes the channel.

    RabbitMQ cannot be asked whether a binding exists. Every binding is made again, which changes nothing if it exists.
    """
    name = ""
    try:
        for name in topology.exchanges(retry_delays):
            await channel.get_exchange(name)
        for spec in topology.queues(retry_delays):
            name = spec.name
            await (await channel.get_queue(name)).bind(spec.exchange, spec.routing_key)
    except ChannelNotFoundEntity:
        return name
    return None
