"""Reads the bodies of requests within limits of size and time, and within a budget for all of them together.

Read a body only after the headers have been checked. Requests whose headers prove that the sender knows a secret share
a budget, which unauthenticated requests cannot use up.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict

from worker.web.limits.body_budget import BodyBudget, BudgetFullError, Reservation

SMALL_BODY_BYTES: Final = 64 * 1024
SMALL_BODIES_BYTES: Final = 8 * 1024 * 1024
SPARE_BYTES: Final = 4 * 1024 * 1024
"""Room in a budget beside one body of the maximum size."""
BODY_SECONDS: Final = 10.0
PROVEN_BODY_SECONDS: Final = 30.0
MAX_WAITING: Final = 32
MAX_FORM_BYTES: Final = 64 * 1024
MAX_FORM_FIELDS: Final = 200
FORM_TYPE: Final = "application/x-www-form-urlencoded"


class BodyError(Exception):
    """A body that was not read. `outcome` is the label of the webhook metrics."""

    def __init__(self, status: int, code: str, detail: str, hint: str, outcome: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.hint, self.outcome = status, code, hint, outcome
        self.headers = {"Retry-After": "5"} if status == 503 else {}  # noqa: PLR2004 - Service Unavailable


class BodyReader:
    """Reads bodies within the budgets of one server. `max_bytes` is the maximum size of a body."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        room = max_bytes + SPARE_BYTES
        self._proven = BodyBudget(room, wait_seconds=5, max_waiting=1000)
        self._large = BodyBudget(room, wait_seconds=1, max_waiting=MAX_WAITING)
        self._small = BodyBudget(SMALL_BODIES_BYTES, wait_seconds=1, max_waiting=1000, evicts=True)

    @contextlib.asynccontextmanager
    async def open(self, request: web.Request, *, proven: bool, limit: int | None = None) -> AsyncIterator[bytes]:
        """Yield the body. Its room is reserved until the context ends.

        `proven`: the headers prove that the sender knows a secret. `limit`: another maximum size, in bytes.

        Raises:
            web.HTTPRequestEntityTooLarge: the body is too large.
            BodyError: the body is compressed, does not arrive, or not in time, or there is no room for it.
        """
        limit = limit or self.max_bytes
        _check_headers(request, limit)
        if request.content.is_eof():  # it has arrived with its head, so it takes no more room than it has already
            body = bytearray()
            await _receive(request, body, limit)
            yield _checked(body, limit)
            return
        async with contextlib.AsyncExitStack() as stack:
            body = await self._receive_in_time(request, limit, stack, proven=proven)
            content = _checked(body, limit)
            del body  # so that a large body is in memory once
            yield content

    async def _receive_in_time(
        self, request: web.Request, limit: int, stack: contextlib.AsyncExitStack, *, proven: bool
    ) -> bytearray:
        length, body = request.content_length, bytearray()
        first = min(limit, SMALL_BODY_BYTES) if length is None else length
        reservation = await _reserve(self._budget(first, proven=proven), first, stack, proven=proven)
        seconds = PROVEN_BODY_SECONDS if proven else BODY_SECONDS
        try:
            async with asyncio.timeout(seconds) as time_limit:
                reservation.reading = time_limit
                await _receive(request, body, first)
                if len(body) > first and length is None:
                    reservation.reading = None
                    await _reserve(self._budget(limit, proven=proven), limit, stack, proven=proven)
                    await _receive(request, body, limit)
        except TimeoutError:
            raise _too_late(reservation, seconds) from None
        finally:
            reservation.reading = None
        return body

    def _budget(self, size: int, *, proven: bool) -> BodyBudget:
        if proven:
            return self._proven
        return self._small if size <= SMALL_BODY_BYTES else self._large


READER: Final = web.AppKey("body_reader", BodyReader)


async def read_body(request: web.Request, limit: int | None = None) -> bytes:
    """Return the body of a request that has been authenticated. Raises as `BodyReader.open`."""
    async with request.config_dict[READER].open(request, proven=True, limit=limit) as body:
        return body


async def read_form(request: web.Request, limit: int = MAX_FORM_BYTES, *, proven: bool = True) -> MultiDict[str]:
    """Return the fields of a form, which must be URL-encoded. Raises as `BodyReader.open`."""
    if request.content_type != FORM_TYPE:
        detail = f"the Content-Type is {request.content_type}"
        raise BodyError(415, "unsupported_type", detail, f"send Content-Type: {FORM_TYPE}", "unsupported")
    async with request.config_dict[READER].open(request, proven=proven, limit=limit) as body:
        try:
            text = body.decode(errors="replace")
            return MultiDict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
        except ValueError:
            detail = f"the form has more than {MAX_FORM_FIELDS} fields"
            raise BodyError(422, "too_many_fields", detail, "send fewer fields", "unreadable") from None


def _check_headers(request: web.Request, limit: int) -> None:
    """Refuse what the headers say is compressed or too large."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        detail = f"the Content-Encoding is {coding[:40]!r}"
        raise BodyError(415, "unsupported_coding", detail, "send the body without compression", "unsupported")
    if request.content_length is not None and request.content_length > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length)


async def _reserve(budget: BodyBudget, size: int, stack: contextlib.AsyncExitStack, *, proven: bool) -> Reservation:
    try:
        return await stack.enter_async_context(budget.reserve(size))
    except BudgetFullError:
        raise _busy("unavailable" if proven else "busy") from None


async def _receive(request: web.Request, body: bytearray, up_to: int) -> None:
    """Append to `body` until the end of the request's body, or until more than `up_to` bytes are there."""
    try:
        while len(body) <= up_to and (chunk := await request.content.readany()):
            body += chunk
    except (ConnectionError, web.RequestPayloadError, RuntimeError) as error:
        # aiohttp raises RuntimeError for a connection that was closed before the read began.
        detail = f"the body is not complete: {type(error).__name__}"
        raise BodyError(400, "incomplete_body", detail, "send the request again", "aborted") from None


def _checked(body: bytearray, limit: int) -> bytes:
    if len(body) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, len(body))
    return bytes(body)


def _too_late(reservation: Reservation, seconds: float) -> BodyError:
    if reservation.evicted:
        return _busy("busy")
    detail = f"the body did not arrive within {seconds:.0f} s"
    return BodyError(408, "body_timeout", detail, "send the request again", "aborted")


def _busy(outcome: str) -> BodyError:
    detail = "too many request bodies are arriving at the same time"
    return BodyError(503, "busy", detail, "send the request again later", outcome)
