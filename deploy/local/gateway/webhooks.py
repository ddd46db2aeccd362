"""Sends the requests that `net.http_post` queued, in the same way as pg_net.

Observed of pg_net 0.20.4: it sends batches of at most 200 requests concurrently and starts the next batch when all have
ended. It sends the given headers and its own User-Agent. It follows redirects, which change a POST to a GET. It records
errors and never retries.
"""

import asyncio
import contextlib
import io
import json
from typing import Any, Final

import aiohttp
import asyncpg

from deploy.local.gateway.database import CONNECTION_ERRORS

USER_AGENT: Final = "pg_net/0.20.4"
BATCH_SIZE: Final = 200
POLL_SECONDS: Final = 2.0
RECONNECT_SECONDS: Final = 0.5
MAX_REDIRECTS: Final = 50
EXPECT_CONTINUE_BYTES: Final = 1024 * 1024
"""Requests with a larger body are sent with `Expect: 100-continue`, as libcurl does."""
TAKE_BATCH: Final = """
    delete from net.http_request_queue
    where id in (select id from net.http_request_queue order by id limit $1)
    returning id, method, url, headers, body, timeout_milliseconds
"""
SAVE_RESPONSE: Final = """
    insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
    values ($1, $2, $3, $4::text::jsonb, $5, $6, $7)
"""


class WebhookDelivery:
    """An asyncio task that listens to the database and sends requests. It reconnects when the connection is lost."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop the task. Open requests are aborted, as when pg_net's background worker ends."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            # PostgresError: the schema may not exist yet.
            with contextlib.suppress(*CONNECTION_ERRORS, asyncpg.PostgresError):
                await self._serve()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _serve(self) -> None:
        """Send requests until the connection to the database is lost."""
        connection = await asyncpg.connect(self._url, timeout=5)
        notified = asyncio.Event()
        try:
            await connection.add_listener("net_http", lambda *_: notified.set())
            while True:
                notified.clear()
                if not await _deliver_batch(connection):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(notified.wait(), POLL_SECONDS)
        finally:
            connection.terminate()


async def _deliver_batch(connection: asyncpg.Connection) -> int:
    """Take a batch from the queue, send it and save the responses; return the number of requests."""
    taken = sorted(await connection.fetch(TAKE_BATCH, BATCH_SIZE), key=lambda row: row["id"])
    if taken:
        responses = await asyncio.gather(*(_send(row) for row in taken))
        await connection.executemany(
            SAVE_RESPONSE, [(row["id"], *response) for row, response in zip(taken, responses, strict=True)]
        )
    return len(taken)


SavedResponse = tuple[int | None, str | None, str | None, str | None, bool, str | None]


async def _send(row: asyncpg.Record) -> SavedResponse:
    """Send one request; return its row for `net._http_response`, without the id.

    Each request opens its own connection, because a kept one that the server is just closing would lose the event.
    """
    milliseconds = row["timeout_milliseconds"]
    try:
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(
                row["method"],
                row["url"],
                data=None if row["body"] is None else io.BytesIO(row["body"]),
                headers=_headers(row),
                skip_auto_headers=("Accept-Encoding", "Content-Type"),
                timeout=aiohttp.ClientTimeout(total=milliseconds / 1000),
                max_redirects=MAX_REDIRECTS,
                expect100=len(row["body"] or b"") > EXPECT_CONTINUE_BYTES,
            ) as response,
        ):
            content = (await response.read()).decode(errors="replace").replace("\0", "")
            headers = json.dumps(dict(response.headers))
            return response.status, response.headers.get("Content-Type"), headers, content, False, None
    except TimeoutError:
        return None, None, None, None, True, f"Timeout of {milliseconds} ms reached"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return None, None, None, None, False, _curl_message(error)


def _headers(row: asyncpg.Record) -> dict[str, str]:
    listed: dict[str, Any] = json.loads(row["headers"] or "{}")
    return {"Accept": "*/*", "User-Agent": USER_AGENT, **{name: str(value) for name, value in listed.items()}}


def _curl_message(error: Exception) -> str:
    """Return libcurl's message for an error."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "Couldn't resolve host name"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "Couldn't connect to server"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "Server returned nothing (no headers, no data)"
    if isinstance(error, ValueError):
        return "URL using bad/illegal format or missing URL"
    return "Failure when receiving data from the peer"
