"""FAL's queue API, played: `GET /<owner>/<app>/requests/<id>` answers what `results` has, to whoever has the key."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

KEY: Final = "sample-fal-key"
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404


class FalQueue:
    """Results by request id: an output, or an HTTP status to answer. `asked` has each (path, Authorization)."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes to serve."""
        return [web.get("/{owner}/{app}/requests/{request_id}", self._result)]

    async def _result(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization")
        self.asked.append((request.path, key))
        if key != f"Key {KEY}":
            return web.json_response({"detail": "No user found for Key ID and Secret"}, status=UNAUTHORIZED)
        found = self.results.get(request.match_info["request_id"], NOT_FOUND)
        if isinstance(found, int):
            return web.json_response({"detail": f"answering {found}"}, status=found)
        return web.json_response(found)
