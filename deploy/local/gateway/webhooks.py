"""Delivers what `net.http_post` queued, with pg_net's manners: at once, together, and never a second time.

Seen of pg_net 0.20.4: batches of at most 200 sent concurrently, the next waits for the slowest; only the headers that
were listed, and its name; redirects are followed and turn a POST into a GET; whatever goes wrong is noted, not retried.
"""

import asyncio
import contextlib
import io
import json
from typing import Any, Final

import aiohttp
import asyncpg

from deploy.local.gateway.database import OUTAGES

AGENT: Final = "pg_net/0.20.4"
BATCH: Final = 200
POLL_SECONDS: Final = 2.0
RECONNECT_SECONDS: Final = 0.5
REDIRECTS: Final = 50
ASKED_FIRST: Final = 1024 * 1024
"""Bodies larger than this are announced with `Expect: 100-continue`, as libcurl does."""
TAKE: Final = """
    delete from net.http_request_queue
    where id in (select id from net.http_request_queue order by id limit $1)
    returning id, method, url, headers, body, timeout_milliseconds
"""
NOTE: Final = """
    insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
    values ($1, $2, $3, $4::text::jsonb, $5, $6, $7)
"""


class WebhookDelivery:
    """One task that listens to the database and sends; it reconnects for as long as it lives."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is on its way is cut off, as when pg_net's worker ends."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            # The schema may not be there yet, either.
            with contextlib.suppress(*OUTAGES, asyncpg.PostgresError):
                await self._serve()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _serve(self) -> None:
        """Deliver until the connection to the database is lost."""
        connection = await asyncpg.connect(self._url, timeout=5)
        news = asyncio.Event()
        try:
            await connection.add_listener("net_http", lambda *_: news.set())
            while True:
                news.clear()
                if not await _deliver_batch(connection):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), POLL_SECONDS)
        finally:
            connection.terminate()


async def _deliver_batch(connection: asyncpg.Connection) -> int:
    """Take a batch off the queue, send it, note the answers; return how many there were."""
    taken = sorted(await connection.fetch(TAKE, BATCH), key=lambda row: row["id"])
    if taken:
        notes = await asyncio.gather(*(_send(row) for row in taken))
        await connection.executemany(NOTE, [(row["id"], *note) for row, note in zip(taken, notes, strict=True)])
    return len(taken)


Note = tuple[int | None, str | None, str | None, str | None, bool, str | None]


async def _send(row: asyncpg.Record) -> Note:
    """Send one request; return what `net._http_response` keeps of it, beside the id.

    Each has a connection of its own: a kept one that the other side closes just then would lose an event.
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
                max_redirects=REDIRECTS,
                expect100=len(row["body"] or b"") > ASKED_FIRST,
            ) as response,
        ):
            content = (await response.read()).decode(errors="replace").replace("\0", "")
            headers = json.dumps(dict(response.headers))
            return response.status, response.headers.get("Content-Type"), headers, content, False, None
    except TimeoutError:
        return None, None, None, None, True, f"Timeout of {milliseconds} ms reached"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return None, None, None, None, False, _explain(error)


def _headers(row: asyncpg.Record) -> dict[str, str]:
    listed: dict[str, Any] = json.loads(row["headers"] or "{}")
    return {"Accept": "*/*", "User-Agent": AGENT, **{name: str(value) for name, value in listed.items()}}


def _explain(error: Exception) -> str:
    """Return libcurl's words for what went wrong."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "Couldn't resolve host name"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "Couldn't connect to server"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "Server returned nothing (no headers, no data)"
    if isinstance(error, ValueError):
        return "URL using bad/illegal format or missing URL"
    return "Failure when receiving data from the peer"
