"""The place that is examined: its settings, a way to its REST API, and what earlier checks learned for later ones."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import httpx
from aio_pika.abc import AbstractConnection
from pydantic import SecretStr
from yarl import URL

from worker.settings import Settings

ANSWER_SECONDS = 8.0


@dataclass(slots=True)
class CheckContext:
    """One installation. `http` speaks to the project with its service key; `outside` to everybody else, without."""

    settings: Settings
    http: httpx.AsyncClient
    outside: httpx.AsyncClient
    health: dict[str, Any] = field(default_factory=dict)
    answer: httpx.Response | None = None
    asked_at: datetime | None = None
    broker: AbstractConnection | None = None
    node: URL | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the site these settings describe; nothing is connected yet."""
        key = settings.supabase_service_role_key.get_secret_value() if settings.supabase_service_role_key else ""
        project = httpx.AsyncClient(
            base_url=(settings.supabase_url or "http://unset.invalid").rstrip("/"),
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            timeout=ANSWER_SECONDS,
        )
        return cls(settings, project, httpx.AsyncClient(timeout=ANSWER_SECONDS))

    async def aclose(self) -> None:
        """Close every connection."""
        await self.http.aclose()
        await self.outside.aclose()
        if self.broker is not None:
            await self.broker.close()

    def masked(self, text: str) -> str:
        """Return the text without any of the site's secrets, wherever an error may have picked one up."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "********")
        return text

    def _secrets(self) -> set[str]:
        values = [getattr(self.settings, name) for name in type(self.settings).model_fields]
        flat = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        secrets = {item.get_secret_value() for item in flat if isinstance(item, SecretStr)}
        secrets.update(node.password or "" for node in self.settings.rabbitmq_nodes)
        return {secret for secret in secrets if len(secret) > len("guest")}
