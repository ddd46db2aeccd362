"""The channel on which a process publishes, and its replacement after RabbitMQ has rejected a message."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aio_pika.abc import AbstractChannel, AbstractRobustChannel

from worker.broker.errors import BROKER_ERRORS, PUBLISH_SECONDS, translate_broker_errors

log = structlog.stdlib.get_logger(__name__)
MIN_REPLACE_SECONDS: Final = 1.0
"""Minimum time between two replacements, so that a queue that rejects everything causes few new channels."""


class PublishChannel:
    """The current channel; `replace` opens another one.

    In a cluster, a channel remembers the leader of each quorum queue from its first publish. If that node has just
    ended, RabbitMQ 3.10 rejects every message on that channel until the node is back. A new channel finds the new
    leader.
    """

    def __init__(self, open_channel: Callable[[], Awaitable[AbstractRobustChannel]]) -> None:
        self.current: AbstractRobustChannel | None = None
        self._open_channel = open_channel
        self._replaced = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def replace(self, rejected: AbstractChannel) -> bool:
        """Replace `rejected` if it is still the current channel. Return whether another channel is current now."""
        if self._task is not None and not self._task.done():
            await asyncio.shield(self._task)
        elif self.current is rejected and time.monotonic() - self._replaced >= MIN_REPLACE_SECONDS:
            self._task = asyncio.create_task(self._replace(), name="new channel for publishing")
            await asyncio.shield(self._task)
        return self.current is not rejected

    async def _replace(self) -> None:
        self._replaced = time.monotonic()
        try:
            with translate_broker_errors():
                async with asyncio.timeout(PUBLISH_SECONDS):
                    channel = await self._open_channel()
        except BROKER_ERRORS as error:
            log.warning("cannot open another channel for publishing", reason=str(error) or type(error).__name__)
            return
        log.warning("RabbitMQ rejected a message; publishing on another channel")
        old, self.current = self.current, channel
        if old is not None:
            closing = asyncio.create_task(self._close(old), name="close a replaced channel")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, channel: AbstractRobustChannel) -> None:
        """Close a replaced channel when every publish on it has ended."""
        await asyncio.sleep(PUBLISH_SECONDS)
        with contextlib.suppress(*BROKER_ERRORS), translate_broker_errors():
            async with asyncio.timeout(PUBLISH_SECONDS):
                await channel.close()

    async def aclose(self) -> None:
        """End the tasks of this object. Close the connection first."""
        tasks = {*self._closing, *([] if self._task is None else [self._task])}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
