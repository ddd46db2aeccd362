"""Sends forwarded webhooks to the application, signed by Standard Webhooks (https://www.standardwebhooks.com)."""

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from standardwebhooks import Webhook
from yarl import URL

from handlers.download.http_response import retry_after
from handlers.errors import FileProcessingError
from worker.forward.message import ForwardedWebhook
from worker.settings import Settings

SECONDS: Final = 15.0
"""Time limit for the application's answer. FAL's first attempt has the same."""
CODE: Final = "not_forwarded"


class ForwardSender:
    """Sends to FORWARD_WEBHOOKS. Close it when the worker ends."""

    def __init__(self, settings: Settings) -> None:
        self._url = None if settings.forward_webhooks is None else URL(settings.forward_webhooks)
        secret = settings.forward_secret
        self._webhook = None if secret is None else Webhook(secret.get_secret_value())
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, forwarded: ForwardedWebhook) -> None:
        """Send the webhook; return when the application has answered 2xx. Its answer is not read.

        Raises:
            FileProcessingError: it answered something else, or not in time (retryable), or FORWARD_WEBHOOKS is not set.
        """
        if self._url is None or self._webhook is None:
            raise FileProcessingError("FORWARD_WEBHOOKS and FORWARD_SECRET are not set for this worker", code=CODE)
        headers = await self._headers(forwarded, self._webhook)
        try:
            async with self._get_session().post(
                self._url.update_query(forwarded.query), data=forwarded.body, headers=headers, allow_redirects=False
            ) as response:
                if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                    raise FileProcessingError(
                        f"the application answered {response.status} at {self._url.host}",
                        code=CODE,
                        retryable=True,
                        retry_after=retry_after(response.headers.get("Retry-After")),
                    )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise FileProcessingError(
                f"no answer of the application at {self._url.host}: {type(error).__name__}", code=CODE, retryable=True
            ) from None

    async def _headers(self, forwarded: ForwardedWebhook, webhook: Webhook) -> dict[str, str]:
        now = datetime.now(UTC)
        text = forwarded.body.decode()
        signature = await asyncio.to_thread(webhook.sign, forwarded.id, now, text)
        return {
            **forwarded.headers,
            "Content-Type": "application/json",
            "webhook-id": forwarded.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=SECONDS, sock_connect=5)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self._session
