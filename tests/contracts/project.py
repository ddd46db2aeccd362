"""HTTP access to a Supabase project: the local gateway's, or with `make test-live` a real one."""

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
    """`key` selects the API key of a request: service, anon, none, forged, expired or opaque.

    A real project's JWT secret is unknown, so that it has no expired key.
    """

    def __init__(
        self, http: aiohttp.ClientSession, url: str, service: str, anon: str | None = None, secret: str | None = None
    ) -> None:
        self.session = http
        self.url = url.rstrip("/")
        self.service = service
        self._anon = anon
        self._secret = secret
        self._suffix = f"-{uuid4().hex[:8]}"
        self._buckets: set[str] = set()

    @classmethod
    def real(cls, http: aiohttp.ClientSession) -> "Project":
        """Return the project that the environment variables name."""
        env = os.environ
        return cls(http, env["SUPABASE_URL"], env["SUPABASE_SERVICE_ROLE_KEY"], env.get("SUPABASE_ANON_KEY"))

    def bucket(self, name: str) -> str:
        """Return the name of this test's own bucket."""
        return f"outlast-test-{name}{self._suffix}" if LIVE else name

    def token(self, **claims: Any) -> str:
        assert self._secret is not None
        return jwt.encode({"exp": int(time.time()) + 60, **claims}, self._secret, algorithm="HS256")

    def has_key(self, key: str) -> bool:
        return (key != "anon" or self._anon is not None) and (key != "expired" or self._secret is not None)

    def headers(self, key: str = "service") -> dict[str, str]:
        makers = {
            "service": lambda: self.service,
            "anon": lambda: self._anon,
            "expired": lambda: self.token(role="service_role", exp=1000000000),
            "forged": lambda: jwt.encode(
                {"role": "service_role"}, "another secret of 32 bytes or more", algorithm="HS256"
            ),
            "opaque": lambda: "sb_secret_of_another_project",
        }
        return {} if key == "none" else {"apikey": makers[key](), "Authorization": f"Bearer {makers[key]()}"}

    async def request(self, method: str, path: str, *, key: str = "service", **more: Any) -> tuple[int, Any, Any]:
        """Send a request; return status, body (parsed if it is JSON) and headers."""
        own = self.headers(key) | more.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=own, **more) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return response.status, json.loads(body) if is_json else body, response.headers

    async def make_bucket(self, name: str, **limits: Any) -> str:
        bucket = self.bucket(name)
        self._buckets.add(bucket)
        status, body, _ = await self.request("POST", "/storage/v1/bucket", json={"id": bucket, "name": bucket} | limits)
        assert status == 200, body
        return bucket

    async def remove_buckets(self) -> None:
        """Remove the buckets of a real project."""
        for bucket in self._buckets if LIVE else ():
            await self.request("POST", f"/storage/v1/bucket/{bucket}/empty", json={})
            await self.request("DELETE", f"/storage/v1/bucket/{bucket}")

    async def replay(self, name: str) -> int:
        """Send the recorded requests; compare status, headers and body with the recorded responses of a real service.

        Returns the number of requests.
        """
        text = (DATA / f"{name}.json").read_text()
        for bucket in BUCKETS:
            text = text.replace(f"{{{bucket}}}", self.bucket(bucket))
            self._buckets.add(self.bucket(bucket))
        saved_paths: dict[str, str] = {}
        exchanges = [exchange for exchange in json.loads(text) if self.has_key(exchange.get("key", "service"))]
        for exchange in exchanges:
            await self._replay_exchange(exchange, saved_paths)
        return len(exchanges)

    async def _replay_exchange(self, exchange: dict[str, Any], saved_paths: dict[str, str]) -> None:
        expected = exchange["answers"]
        body = exchange.get("body")
        status, actual, headers = await self.request(
            exchange["method"],
            saved_paths.get(exchange["path"], exchange["path"]),
            key=exchange.get("key", "service"),
            headers=_upload_metadata(exchange) | exchange.get("headers", {}),
            json=exchange.get("json"),
            data=io.BytesIO(b"x" * body) if isinstance(body, int) else body,
        )
        assert status == expected["status"], (exchange, actual)
        assert {name: headers.get(name) for name in expected["headers"]} == expected["headers"], exchange
        if "json" in expected:
            assert matches(expected["json"], actual), (exchange, actual)
        if "text" in expected:
            assert actual == expected["text"].encode(), exchange
        if "saves" in exchange:
            saved_paths[exchange["saves"]] = headers["Location"].removeprefix(self.url)


def _upload_metadata(exchange: dict[str, Any]) -> dict[str, str]:
    """Return the header of TUS metadata, which is recorded unencoded."""
    pairs = exchange.get("metadata", {}).items()
    return (
        {"Upload-Metadata": ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in pairs)}
        if pairs
        else {}
    )


def matches(expected: Any, actual: Any) -> bool:
    """Whether JSON is as expected; `...` matches any value except null.

    A real project of a newer version may have additional fields.
    """
    if expected == "...":
        return actual is not None
    if isinstance(expected, dict) and isinstance(actual, dict):
        same = expected.keys() <= actual.keys() if LIVE else expected.keys() == actual.keys()
        return same and all(matches(expected[name], actual[name]) for name in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(matches, expected, actual))
    return bool(expected == actual)
