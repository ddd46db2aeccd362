"""How it is told that RabbitMQ is away, whatever aio-pika and aiormq raise for it."""

import asyncio
import contextlib
from collections.abc import Iterator

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

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
