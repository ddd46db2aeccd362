"""Opens and closes what receiver, worker, commands and Python API use: connections, HTTP clients, codec processes."""

import contextlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, Self

from handlers.codec.codec import Codec
from handlers.database.client import Supabase
from handlers.download import Downloader
from worker.broker.connection import Broker
from worker.forward.sender import ForwardSender
from worker.notices.sender import NoticeSender
from worker.observability.metrics import Metrics
from worker.settings import Settings

VERSION: Final = version("outlast")


class Resources:
    """Opens each resource on request and closes all of them, last one first, when the context ends.

    `metrics` counts what the resources do; by default nothing is counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self._metrics = metrics
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def broker(self, name: str) -> Broker:
        """Return a broker that connects in the background. RabbitMQ shows `outlast <name>` as the connection's name."""
        metrics = self._metrics or Metrics(VERSION)
        return await self._stack.enter_async_context(Broker(self.settings, metrics, f"outlast {name}"))

    async def supabase(self, is_busy: Callable[[], bool] = lambda: False) -> Supabase:
        """Return a client of the Supabase project that SUPABASE_URL names. For `is_busy` see BatchedCalls."""
        return await self._stack.enter_async_context(Supabase(self.settings, self._metrics, is_busy))

    async def supabase_if_configured(self) -> Supabase | None:
        """Return a client of the Supabase project, or None if SUPABASE_URL is not set."""
        return None if self.settings.supabase_url is None else await self.supabase()

    async def downloader(self) -> Downloader:
        """Return a downloader."""
        return await self._stack.enter_async_context(Downloader(self.settings, self._metrics))

    async def forward_sender(self) -> ForwardSender:
        """Return a sender that passes webhooks on to FORWARD_WEBHOOKS."""
        return await self._stack.enter_async_context(ForwardSender(self.settings))

    async def notice_sender(self) -> NoticeSender:
        """Return a sender of notices to NOTIFY_URLS."""
        return await self._stack.enter_async_context(NoticeSender(self.settings))

    def codec(self) -> Codec:
        """Return a codec, which starts its processes on first use."""
        codec = Codec(self.settings, self._metrics)
        self._stack.push_async_callback(codec.aclose)
        return codec
