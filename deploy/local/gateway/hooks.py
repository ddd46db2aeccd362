"""`net.http_post` delivered with pg_net's manners: batches of 200 sent at once, one time-out each, no retry, ever."""

import asyncio
import contextlib
import json
import logging
from typing import Any, Final

import aiohttp
import asyncpg

BATCH: Final = 200
POLL_SECONDS: Final = 1.0
RECONNECT_SECONDS: Final = 0.5
USER_AGENT: Final = "pg_net/0.20.4"
TAKE: Final = """
    delete from net.http_request_queue where id in
      (select id from net.http_request_queue order by id limit $1 for update skip locked)
    returning id, method, url, headers, body, timeout_milliseconds
"""
KEEP: Final = """
    insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
    values ($1, $2, $3, $4::jsonb, $5, $6, $7)
"""
log = logging.getLogger("outlast.gateway")


class Hooks:
    """Takes requests off the queue as they are committed, and sends each once."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name="pg_net")

    async def stop(self) -> None:
        """Deliver nothing more; what is under way is dropped, as when pg_net's worker dies."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._deliver()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.info("no database to take webhooks from: %s", type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _deliver(self) -> None:
        connection = await asyncpg.connect(self._url)
        woken = asyncio.Event()
        try:
            await connection.add_listener("net_http", lambda *_: woken.set())
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                while not connection.is_closed():
                    woken.clear()
                    batch = await connection.fetch(TAKE, BATCH)
                    answers = await asyncio.gather(*(_send(session, request) for request in batch))
                    await connection.executemany(KEEP, answers)
                    if not batch:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(woken.wait(), POLL_SECONDS)
        finally:
            connection.terminate()


async def _send(session: aiohttp.ClientSession, request: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a row of the queue
    """Send one request; return its row of `net._http_response`."""
    limit = request["timeout_milliseconds"]
    headers = {**json.loads(request["headers"] or "{}"), "User-Agent": USER_AGENT, "Accept": "*/*"}
    try:
        async with session.request(
            request["method"],
            request["url"],
            data=request["body"],
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=limit / 1000),
        ) as response:
            content = await response.text(errors="replace")
            told = json.dumps(dict(response.headers))
            return request["id"], response.status, response.content_type, told, content, False, None
    except TimeoutError:
        said = f"Timeout of {limit} ms reached. Total time: {limit:.6f} ms"
        return request["id"], None, None, None, None, True, said
    except aiohttp.ClientConnectorError:
        return request["id"], None, None, None, None, False, "Couldn't connect to server"
    except aiohttp.ServerDisconnectedError:
        said = "Server returned nothing (no headers, no data)"
        return request["id"], None, None, None, None, False, said
    except (aiohttp.ClientError, ValueError) as error:
        return request["id"], None, None, None, None, False, str(error) or type(error).__name__
