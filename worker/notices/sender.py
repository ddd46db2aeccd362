"""Sends notices: signed by Standard Webhooks (https://www.standardwebhooks.com), or in Slack's form."""

import asyncio
import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from standardwebhooks import Webhook
from yarl import URL

from handlers.download.http_response import retry_after
from handlers.errors import FileProcessingError
from worker.forward.sender import SECONDS
from worker.notices.message import NoticeMessage, target_of
from worker.notices.slack import slack_body
from worker.notices.types import SLACK_HOSTS
from worker.settings import Settings

CODE: Final = "not_notified"
PERMANENT: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
"""Answers of Slack for an address that was removed."""


class NoticeSender:
    """Sends to the addresses of NOTIFY_URLS. Close it when the worker ends."""

    def __init__(self, settings: Settings) -> None:
        self._urls = {target_of(url): URL(url) for url in settings.notify_addresses}
        secret = settings.notify_secret
        self._webhook = None if secret is None else Webhook(secret.get_secret_value())
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, message: NoticeMessage) -> None:
        """Send the notice; return when the address has answered 2xx. Its answer is not read.

        Raises:
            FileProcessingError: it answered something else or not in time, or settings are missing. Retryable, except
                for missing settings and for an address that Slack has removed.
        """
        url = self._urls.get(message.target)
        if url is None:
            raise FileProcessingError("the address is no longer in NOTIFY_URLS of this worker", code=CODE)
        body, headers = await self._request(message, url)
        try:
            async with self._get_session().post(url, data=body, headers=headers, allow_redirects=False) as response:
                if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                    raise FileProcessingError(
                        f"the address at {url.host} answered {response.status}",
                        code=CODE,
                        retryable=not (url.host in SLACK_HOSTS and response.status in PERMANENT),
                        retry_after=retry_after(response.headers.get("Retry-After")),
                    )
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = f"no answer of the address at {url.host}: {type(error).__name__}"
            raise FileProcessingError(problem, code=CODE, retryable=True) from None

    async def _request(self, message: NoticeMessage, url: URL) -> tuple[bytes, dict[str, str]]:
        headers = {"Content-Type": "application/json"}
        if url.host in SLACK_HOSTS:
            return json.dumps(slack_body(message.notice)).encode(), headers
        if self._webhook is None:
            raise FileProcessingError("NOTIFY_SECRET is not set for this worker", code=CODE)
        now, body = datetime.now(UTC), message.notice.model_dump_json()
        signature = await asyncio.to_thread(self._webhook.sign, message.id, now, body)
        headers |= {
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        return body.encode(), headers

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=SECONDS, sock_connect=5)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self._session
