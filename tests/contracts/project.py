"""A Supabase project as its callers see it: the local gateway's, or with `make test-live` a real one."""

import io
import json
import os
import time
from base64 import b64encode
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import jwt

DATA = Path(__file__).parent / "data"
LIVE = os.environ.get("OUTLAST_LIVE") == "1"
BUCKETS = ("main", "small", "mime", "open", "nope")


class Project:
    """`key` says who calls: service, anon, none, forged, expired or opaque; a real project's secrets are not known."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, service: str, anon: str | None = None, secret: str | None = None
    ) -> None:
        self.session = http
        self.url = url.rstrip("/")
        self.service = service
        self._anon = anon
        self._secret = secret
        self._suffix = f"-{uuid4().hex[:8]}"
        self._made: set[str] = set()

    @classmethod
    def real(cls, http: aiohttp.ClientSession) -> "Project":
        """The project that the environment names."""
        env = os.environ
        return cls(http, env["SUPABASE_URL"], env["SUPABASE_SERVICE_ROLE_KEY"], env.get("SUPABASE_ANON_KEY"))

    def bucket(self, name: str) -> str:
        """The name of a bucket of this test's own."""
        return f"outlast-test-{name}{self._suffix}" if LIVE else name

    def token(self, **claims: Any) -> str:
        assert self._secret is not None
        return jwt.encode({"exp": int(time.time()) + 60, **claims}, self._secret, algorithm="HS256")

    def knows(self, key: str) -> bool:
        return (key != "anon" or self._anon is not None) and (key != "expired" or self._secret is not None)

    def headers(self, key: str = "service") -> dict[str, str]:
        makers = {
            "service": lambda: self.service,
            "anon": lambda: self._anon,
            "expired": lambda: self.token(role="service_role", exp=1000000000),
            "forged": lambda: jwt.encode(
                {"role": "service_role"}, "another secret, quite as long as ours", algorithm="HS256"
            ),
            "opaque": lambda: "sb_secret_of_somebody_else",
        }
        return {} if key == "none" else {"apikey": makers[key](), "Authorization": f"Bearer {makers[key]()}"}

    async def ask(self, method: str, path: str, *, key: str = "service", **more: Any) -> tuple[int, Any, Any]:
        """Return status, body (JSON where it is) and headers."""
        own = self.headers(key) | more.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=own, **more) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return response.status, json.loads(body) if is_json else body, response.headers

    async def make_bucket(self, name: str, **limits: Any) -> str:
        bucket = self.bucket(name)
        self._made.add(bucket)
        status, body, _ = await self.ask("POST", "/storage/v1/bucket", json={"id": bucket, "name": bucket} | limits)
        assert status == 200, body
        return bucket

    async def clean(self) -> None:
        """Remove the buckets; a gateway's go with it."""
        for bucket in self._made if LIVE else ():
            await self.ask("POST", f"/storage/v1/bucket/{bucket}/empty", json={})
            await self.ask("DELETE", f"/storage/v1/bucket/{bucket}")

    async def replay(self, name: str) -> int:
        """Send what was recorded; compare status, headers and body with what a real service was seen to answer.

        Returns the number of requests.
        """
        text = (DATA / f"{name}.json").read_text()
        for bucket in BUCKETS:
            text = text.replace(f"{{{bucket}}}", self.bucket(bucket))
            self._made.add(self.bucket(bucket))
        saved: dict[str, str] = {}
        exchanges = [one for one in json.loads(text) if self.knows(one.get("key", "service"))]
        for exchange in exchanges:
            await self._replay_one(exchange, saved)
        return len(exchanges)

    async def _replay_one(self, exchange: dict[str, Any], saved: dict[str, str]) -> None:
        wanted = exchange["answers"]
        body = exchange.get("body")
        status, seen, headers = await self.ask(
            exchange["method"],
            saved.get(exchange["path"], exchange["path"]),
            key=exchange.get("key", "service"),
            headers=_upload_metadata(exchange) | exchange.get("headers", {}),
            json=exchange.get("json"),
            data=io.BytesIO(b"x" * body) if isinstance(body, int) else body,
        )
        assert status == wanted["status"], (exchange, seen)
        assert {name: headers.get(name) for name in wanted["headers"]} == wanted["headers"], exchange
        if "json" in wanted:
            assert like(wanted["json"], seen), (exchange, seen)
        if "text" in wanted:
            assert seen == wanted["text"].encode(), exchange
        if "saves" in exchange:
            saved[exchange["saves"]] = headers["Location"].removeprefix(self.url)


def _upload_metadata(exchange: dict[str, Any]) -> dict[str, str]:
    """TUS's metadata, recorded in the clear."""
    pairs = exchange.get("metadata", {}).items()
    return (
        {"Upload-Metadata": ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in pairs)}
        if pairs
        else {}
    )


def like(wanted: Any, seen: Any) -> bool:
    """Whether JSON is as wanted; `...` stands for what differs from run to run.

    A real project of a newer version may say more.
    """
    if wanted == "...":
        return seen is not None
    if isinstance(wanted, dict) and isinstance(seen, dict):
        same = wanted.keys() <= seen.keys() if LIVE else wanted.keys() == seen.keys()
        return same and all(like(wanted[name], seen[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(wanted) == len(seen) and all(map(like, wanted, seen))
    return bool(wanted == seen)
