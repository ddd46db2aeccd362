"""The errors of a broker that is away, and the time limit of a publish. One definition each, used by every module."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Final

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

PUBLISH_SECONDS: Final = 10.0
"""Longest time to wait for the confirm of a publish. The receiver has a shorter one of its own."""
ENDED: Final = "the connection ended before RabbitMQ answered"
CLOSED: Final = re.compile(
    r"<Connection: .* closed"  # aiormq.Connection.channel
    r"|<RobustConnection: .* connection closed"  # aio_pika.RobustConnection.connect
    r"|Connection was not opened"  # aio_pika.Connection.channel
    r"|Can't initialize closed channel"  # aio_pika.Channel.initialize
)
"""Texts of the plain RuntimeErrors that aio-pika 10 and aiormq 7 raise on a connection or channel that has ended."""


class BrokerUnavailableError(RuntimeError):
    """The broker did not confirm in time; the message may or may not have arrived, so publish it again."""


BROKER_ERRORS: Final = (AMQPError, BrokerUnavailableError, ChannelInvalidStateError, ConnectionError, TimeoutError)
"""What to catch around `translate_broker_errors`. RuntimeError is not among them, so that a bug never looks like an
outage; the few RuntimeErrors that mean a lost connection are translated."""


@contextlib.contextmanager
def translate_broker_errors() -> Iterator[None]:
    """Distinguish the end of a connection from the cancellation of a task. Use it around every wait for the broker.

    When a connection ends (because no heartbeats came, say), aiormq ends the waits on it with CancelledError, with a
    bare Exception, or with a RuntimeError that says `closed`. A task that was really cancelled stays cancelled.

    Raises:
        BrokerUnavailableError: the connection ended.
    """
    task = asyncio.current_task()
    cancelling = 0 if task is None else task.cancelling()
    try:
        yield
    except asyncio.CancelledError:
        if task is None or task.cancelling() > cancelling:
            raise
        raise BrokerUnavailableError(ENDED) from None
    except StopAsyncIteration as error:  # aiormq's reader, when the broker closes the socket during the handshake
        raise BrokerUnavailableError(ENDED) from error
    except Exception as error:
        if not _means_closed(error):
            raise
        raise BrokerUnavailableError(ENDED) from error


def _means_closed(error: Exception) -> bool:
    if type(error) is RuntimeError:
        return CLOSED.match(str(error)) is not None
    return type(error) is Exception
