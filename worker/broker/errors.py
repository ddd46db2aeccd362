"""The errors that mean an unavailable broker, and the time limits of publishing. All modules use these definitions."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Final

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

PUBLISH_SECONDS: Final = 10.0
"""Time limit for the confirm of a publish. The receiver has its own limits (`worker/web/receiver.py`)."""
BEST_EFFORT_SECONDS: Final = 5.0
"""Time limit of a publish whose failure is only logged: broadcast commands, results for Celery producers."""
ENDED: Final = "the connection ended before RabbitMQ answered"
CLOSED_TEXTS: Final = re.compile(
    r"<Connection: .* closed"  # aiormq.Connection.channel
    r"|<RobustConnection: .* connection closed"  # aio_pika.RobustConnection.connect
    r"|Connection was not opened"  # aio_pika.Connection.channel
    r"|Can't initialize closed channel"  # aio_pika.Channel.initialize
)
"""Texts of the plain RuntimeErrors that aio-pika 10 and aiormq 7 raise on a connection or channel that has ended."""


class BrokerUnavailableError(RuntimeError):
    """RabbitMQ is not connected, did not answer in time, or refused a message. A published message may have arrived."""


BROKER_ERRORS: Final = (AMQPError, BrokerUnavailableError, ChannelInvalidStateError, ConnectionError, TimeoutError)
"""What to catch around `translate_broker_errors`. RuntimeError is not included, so that a bug never looks like an
outage; the few RuntimeErrors that mean a lost connection are translated."""


@contextlib.contextmanager
def translate_broker_errors() -> Iterator[None]:
    """Raise BrokerUnavailableError when a connection ends during a call of aio-pika. Use it around every such call.

    When a connection ends (for example after missed heartbeats), aiormq raises CancelledError, StopAsyncIteration, a
    plain Exception, or a RuntimeError with one of CLOSED_TEXTS. The cancellation of the current task is not translated.

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


def error_text(error: BaseException) -> str:
    """Return the text for one of BROKER_ERRORS. A TimeoutError has no text of its own, so it gets one here."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _means_closed(error: Exception) -> bool:
    if type(error) is RuntimeError:
        return CLOSED_TEXTS.match(str(error)) is not None
    return type(error) is Exception
