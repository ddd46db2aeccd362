"""A broker given by the environment instead of the private node, for CI jobs with other RabbitMQ versions as services.

OUTLAST_TEST_RABBITMQ_URL is the AMQP URL of a user who may create virtual hosts,
OUTLAST_TEST_RABBITMQ_MANAGEMENT_URL the URL of its management API.
"""

import os
from typing import Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from deploy.local.processes import StackError

URL_VARIABLE = "OUTLAST_TEST_RABBITMQ_URL"
MANAGEMENT_VARIABLE = "OUTLAST_TEST_RABBITMQ_MANAGEMENT_URL"


class ExternalRabbitMQ:
    """The interface of `deploy.local.rabbitmq.RabbitMQ`, except what needs a private node (`control`, `kill`)."""

    def __init__(self, url: str, management_url: str) -> None:
        self.url, self.management_url = url, management_url.rstrip("/")

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the broker of the two variables; None without them. Raises StackError when only one is set."""
        url, management = (os.environ.get(name, "") for name in (URL_VARIABLE, MANAGEMENT_VARIABLE))
        if bool(url) != bool(management):
            raise StackError(f"set both {URL_VARIABLE} and {MANAGEMENT_VARIABLE}, or neither")
        return cls(url, management) if url else None

    def vhost_url(self, name: str) -> str:
        return f"{self.url.rstrip('/').removesuffix('/%2F')}/{quote(name, safe='')}"

    async def create_vhost(self, name: str) -> str:
        await self._manage("PUT", name)
        return self.vhost_url(name)

    async def delete_vhost(self, name: str) -> None:
        await self._manage("DELETE", name)

    async def start(self) -> None:
        """Do nothing: it already runs."""

    async def stop(self) -> None:
        """Do nothing: other programs may use it."""

    async def control(self, *arguments: str) -> None:
        raise StackError(f"rabbitmqctl {' '.join(arguments)}: the broker of {URL_VARIABLE} is not ours to control")

    async def _manage(self, method: str, vhost: str) -> None:
        url = URL(self.url)
        headers = {"Authorization": aiohttp.encode_basic_auth(url.user or "", url.password or "")}
        place = URL(f"{self.management_url}/api/vhosts/{quote(vhost, safe='')}", encoded=True)
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, place) as response,
        ):
            if not response.ok:
                raise StackError(f"RabbitMQ's management answered {response.status} to {method} {vhost}")
