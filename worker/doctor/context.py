"""What the checks share: the settings, HTTP clients, and results of earlier checks that later ones use."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

import httpx
from aio_pika.abc import AbstractConnection
from pydantic import SecretStr
from yarl import URL

from worker.settings import Settings

HTTP_TIMEOUT_SECONDS: Final = 8.0


@dataclass(slots=True)
class CheckContext:
    """The installation that is checked.

    `supabase_http` sends the service role key, `http` does not. `supabase_response` is the response to the first
    request; `health` and `policies` are the answers of `outlast_health` and `outlast_policies`; `requested_at` is when
    the first request was sent, later when `outlast_health` was called; `node` is the connected broker node.
    """

    settings: Settings
    supabase_http: httpx.AsyncClient
    http: httpx.AsyncClient
    health: dict[str, Any] = field(default_factory=dict)
    policies: object = None
    supabase_response: httpx.Response | None = None
    requested_at: datetime | None = None
    broker: AbstractConnection | None = None
    node: URL | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return a context for these settings. Nothing is connected yet."""
        key = settings.supabase_service_role_key.get_secret_value() if settings.supabase_service_role_key else ""
        project = httpx.AsyncClient(
            base_url=(settings.supabase_url or "http://unset.invalid").rstrip("/"),
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            timeout=HTTP_TIMEOUT_SECONDS,
        )
        return cls(settings, project, httpx.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS))

    async def aclose(self) -> None:
        """Close every connection."""
        await self.supabase_http.aclose()
        await self.http.aclose()
        if self.broker is not None:
            await self.broker.close()

    def masked(self, text: str) -> str:
        """Return the text with the secrets of the settings masked, except those of at most five characters."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "********")
        return text

    def _secrets(self) -> set[str]:
        values = [getattr(self.settings, name) for name in type(self.settings).model_fields]
        items = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        secrets = {item.get_secret_value() for item in items if isinstance(item, SecretStr)}
        secrets.update(node.password or "" for node in self.settings.rabbitmq_nodes)
        return {secret for secret in secrets if len(secret) > len("guest")}
