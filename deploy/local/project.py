"""A client of a Supabase project for the demo: rows over REST, objects over Storage, and a signed webhook."""

import io
import json
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

import aiohttp
from standardwebhooks.webhooks import Webhook

from deploy.local.endpoints import Endpoints


class Project:
    """A client with the service role key. Every method raises aiohttp.ClientResponseError for an error response."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        key = endpoints.service_role_key
        self._session = aiohttp.ClientSession(
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            raise_for_status=True,
            timeout=aiohttp.ClientTimeout(total=60),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def select(self, table: str, query: str) -> list[dict[str, Any]]:
        """Return rows of a table. `query` is a PostgREST query string, such as `id=eq.7&select=id`."""
        async with self._session.get(f"{self._endpoints.supabase_url}/rest/v1/{table}?{query}") as response:
            rows: list[dict[str, Any]] = await response.json()
            return rows

    async def insert(self, table: str, row: dict[str, Any]) -> None:
        """Insert one row."""
        await self._send("POST", table, row)

    async def update(self, table: str, query: str, change: dict[str, Any]) -> None:
        """Update the rows that match."""
        await self._send("PATCH", f"{table}?{query}", change)

    async def _send(self, method: str, place: str, content: dict[str, Any]) -> None:
        """Send a row as a stream, because inline files can make it large."""
        body, headers = io.BytesIO(json.dumps(content).encode()), {"Content-Type": "application/json"}
        url = f"{self._endpoints.supabase_url}/rest/v1/{place}"
        async with self._session.request(method, url, data=body, headers=headers):
            pass

    async def download(self, bucket: str, path: str) -> bytes:
        """Return an object's bytes."""
        url = f"{self._endpoints.supabase_url}/storage/v1/object/{bucket}/{path}"
        async with self._session.get(url) as response:
            return await response.read()

    async def send_webhook(self, row: dict[str, Any]) -> None:
        """Send the webhook of the trigger, for a project whose database cannot reach this machine."""
        event = {"type": "UPDATE", "table": "generations", "schema": "public", "record": row, "old_record": None}
        body, now, name = json.dumps(event), datetime.now(UTC), f"msg_{uuid4()}"
        headers = {
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self._endpoints.webhook_secret).sign(name, now, body),
            "Content-Type": "application/json",
        }
        async with self._session.post(f"{self._endpoints.receiver_url}/webhooks/supabase", data=body, headers=headers):
            pass
