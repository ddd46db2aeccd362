"""FAL's queue API, asked for the result of a request again: its answer names fresh URLs for the same files.

`GET <FAL_QUEUE_URL>/<owner>/<app>/requests/<id>` with `Authorization: Key <FAL_KEY>`. FAL keeps a result for an hour,
six minutes when it is 10 KB or larger (docs.fal.ai, "Get request result"). The key goes to FAL_QUEUE_URL's origin only.
"""

import json
import re
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr
from yarl import URL

from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError

SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
LARGEST_ANSWER: Final = 64 * 1024 * 1024
GONE: Final = frozenset({404, 410})
REFUSED: Final = frozenset({401, 403})
WAIT: Final = frozenset({202, 408, 425, 429})


class FalQueueClient:
    """Asks for results, one connection a question: a person asks now and then."""

    def __init__(self, url: str, key: SecretStr, timeout: float = 30.0) -> None:
        self._base = URL(url)
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)

    async def result(self, model: str, request_id: str) -> Any:  # noqa: ANN401 - any JSON
        """Return what the request put out. `model` is FAL's model id, or the request's `response_url`.

        Raises:
            SourceGoneError: FAL has no result (any more), does not take the key, or `model` is no address of its queue.
            SourceUnavailableError: FAL did not answer this time, or the request is still under way.
        """
        url = self._address(model, request_id)
        headers = {"Authorization": f"Key {self._key.get_secret_value()}", "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                _check(response.status)
                return await _read(response)
        except TimeoutError:
            raise SourceUnavailableError("FAL's queue took too long to answer; see FAL_QUEUE_URL") from None
        except aiohttp.ClientError as error:
            raise SourceUnavailableError(f"FAL's queue could not be asked: {type(error).__name__}") from None

    def _address(self, model: str, request_id: str) -> URL:
        if "://" in model:
            return self._own(model)
        owner, _, rest = model.strip().strip("/").partition("/")
        app = rest.partition("/")[0]
        if not SEGMENT.fullmatch(owner) or not SEGMENT.fullmatch(app):
            raise SourceGoneError(
                "the generation's row names no FAL model (owner/app): set GENERATIONS_MODEL_COLUMN to the column with "
                "the model id or the response_url"
            )
        path = f"{self._base.raw_path.rstrip('/')}/{owner}/{app}/requests/{quote(request_id, safe='')}"
        return self._base.with_path(path, encoded=True).with_query(None)

    def _own(self, text: str) -> URL:
        """Take a `response_url` as it is, if it is FAL's: whatever else stands in a row never gets the key."""
        try:
            url = URL(text)
            if url.origin() == self._base.origin():
                return url.with_user(None)
        except ValueError:
            pass
        raise SourceGoneError("the row's response_url is not on FAL_QUEUE_URL's host, and nobody else gets the key")


def _check(status: int) -> None:
    """Translate FAL's status into our error tree."""
    if status == HTTPStatus.OK:
        return
    if status in GONE:
        raise SourceGoneError(f"FAL's queue has no result any more (it answered {status}; it keeps them for an hour)")
    if status in REFUSED:
        raise SourceGoneError(f"FAL's queue does not take FAL_KEY for this request (it answered {status})")
    if status in WAIT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        said = "the request is still under way" if status == HTTPStatus.ACCEPTED else "try again later"
        raise SourceUnavailableError(f"FAL's queue answered {status}: {said}")
    raise SourceGoneError(f"FAL's queue answered {status}")


async def _read(response: aiohttp.ClientResponse) -> Any:  # noqa: ANN401 - any JSON
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise FileProcessingError(f"FAL's result is larger than {LARGEST_ANSWER} bytes", code="source_gone")
    try:
        return json.loads(body)
    except ValueError:
        raise SourceUnavailableError("FAL's queue answered what is no JSON") from None
