"""An HTTP reverse proxy in front of the gateway that rejects some requests and loses some responses.

The fault of a request depends on the seed, its path and how often it was sent, so a run is reproducible.
"""

import asyncio
import itertools
import random
from collections import Counter

import aiohttp
from aiohttp import web
from yarl import URL

UPLOAD = "/storage/v1/object/"
RPC = "/rest/v1/rpc/"
BATCH = "/rest/v1/rpc/outlast_many"
CERTAIN_BATCHES = 2
"""The first batches all get a fault: a short run on a busy machine has few."""
NAMES = {UPLOAD: "upload", BATCH: "batch", RPC: "call"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
ANSWERS = {
    "hidden_503": (400, {"statusCode": "503", "error": "SlowDown", "message": "Please reduce your request rate."}),
    "429": (429, {"statusCode": "429", "error": "too_many_requests", "message": "Too many requests"}),
    "500": (500, {"statusCode": "500", "error": "Internal", "message": "Internal Server Error"}),
    "rpc_503": (503, {"code": "PGRST001", "message": "Database client error", "details": None, "hint": None}),
    "away": (400, {"statusCode": "503", "error": "DatabaseTimeout", "message": "The connection pool is exhausted"}),
    "gateway_502": (502, {"message": "An invalid response was received from the upstream server"}),
}


class FaultProxy:
    """Forwards requests to `target`, most of them without a fault. `counts` has the number of faults by kind."""

    def __init__(self, target: str, seed: int, *, uploads: float, calls: float, batches: float = 0) -> None:
        self.target = URL(target)
        self.counts: Counter[str] = Counter()
        self.storage_down = False
        self.port = 0
        self._seed = seed
        self._odds = {UPLOAD: uploads, BATCH: batches, RPC: calls}
        self._visits: Counter[str] = Counter()
        self._batch_faults = itertools.cycle(("cut", "dropped", "after", "before"))  # in turn: a run has few batches
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{anything:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop; open requests are aborted."""
        if self._runner is not None:
            await self._runner.cleanup()
            await self._session.close()

    async def storage_outage(self, seconds: float) -> None:
        """Let Storage answer every request with a 503 hidden in a 400, for `seconds`."""
        self.storage_down = True
        await asyncio.sleep(seconds)
        self.storage_down = False

    def _fault_for(self, request: web.Request) -> tuple[str, str, str] | None:
        """Choose the fault of a request, None for none: its name, its error response and when that is sent.

        `cut` and `dropped`: the connection is closed without a response, before or after the request is executed.
        """
        kind = next((kind for kind in self._odds if request.method == "POST" and request.path.startswith(kind)), None)
        if kind is None:
            return None
        self._visits[request.path] += 1
        rng = random.Random(f"{self._seed} {request.path} {self._visits[request.path]}")  # noqa: S311 - reproducible, not for security
        is_certain = kind == BATCH and self._visits[request.path] <= CERTAIN_BATCHES
        if rng.random() >= self._odds[kind] and not is_certain:
            return None
        answer = rng.choice(("hidden_503", "429", "500")) if kind == UPLOAD else "rpc_503"
        when = next(self._batch_faults) if kind == BATCH else rng.choice(("before", "after", "dropped"))
        return NAMES[kind], answer, when

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.storage_down and request.path.startswith("/storage/"):
            self.counts["storage away"] += 1
            return await _refuse(request, "away")
        name, answer, when = self._fault_for(request) or ("", "", "")
        if answer:
            self.counts[f"{name} {when}"] += 1
        if when == "before":
            return await _refuse(request, answer)
        if when == "cut":
            request.transport.abort()
            raise ConnectionResetError
        try:
            return await self._pass_on(request, answer, when)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return await _refuse(request, "gateway_502")

    async def _pass_on(self, request: web.Request, answer: str, when: str) -> web.StreamResponse:
        """Forward the request and stream the response back, unless the response is to be lost."""
        headers = [(name, value) for name, value in request.headers.items() if name.lower() != "connection"]
        url = URL(f"{str(self.target).rstrip('/')}{request.raw_path}", encoded=True)
        body = request.content if request.body_exists else None
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as there:
            if when == "after":
                await there.read()
                return await _refuse(request, answer)
            if when == "dropped":
                await there.read()
                request.transport.abort()
                raise ConnectionResetError
            here = web.StreamResponse(status=there.status, reason=there.reason)
            for name, value in there.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    here.headers.add(name, value)
            await here.prepare(request)
            async for chunk in there.content.iter_any():
                await here.write(chunk)
            await here.write_eof()
            return here


async def _refuse(request: web.Request, name: str) -> web.Response:
    """Answer with an error after reading the rest of the request; close the connection when that takes too long."""
    status, body = ANSWERS[name]
    response = web.json_response(body, status=status)
    try:
        await asyncio.wait_for(_drain(request), 5)
    except (OSError, TimeoutError, aiohttp.ClientError, web.HTTPException):
        response.force_close()
    return response


async def _drain(request: web.Request) -> None:
    """Read and discard the body: a client that is still writing would miss the response."""
    async for _ in request.content.iter_any():
        pass
