"""A replacement for FAL's queue API: `GET /<owner>/<app>/requests/<id>` with a key returns an entry of `results`."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

KEY: Final = "sample-fal-key"
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404


class FalQueue:
    """`results` maps request ids to an output or an HTTP status; `requests` lists (path, Authorization) per call."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.requests: list[tuple[str, str | None]] = []

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes to serve."""
        paths = ("/{owner}/{app}/requests/{request_id}", "/workflows/{owner}/{app}/requests/{request_id}")
        return [web.get(path, self._result) for path in paths]

    async def _result(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization")
        self.requests.append((request.path, key))
        if key != f"Key {KEY}":
            return web.json_response({"detail": "No user found for Key ID and Secret"}, status=UNAUTHORIZED)
        found = self.results.get(request.match_info["request_id"], NOT_FOUND)
        if isinstance(found, int):
            return web.json_response({"detail": f"status {found}, as configured"}, status=found)
        return web.json_response(found)
