"""Requests a result again from FAL's queue API. The answer has new URLs for the same files.

`GET <FAL_QUEUE_URL>/<owner>/<app>/requests/<id>` with `Authorization: Key <FAL_KEY>`. FAL keeps a result
for the account's payload storage period, 30 days by default (docs.fal.ai). The key is sent to FAL_QUEUE_URL's origin
only.
"""

import re
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr
from yarl import URL

from handlers.download.fal_files import read_limited
from handlers.errors import FileProcessingError, SourceGoneError, SourceUnavailableError
from handlers.json_text import parse_json
from schemas.urls import parse_url

SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
APP_SEGMENTS: Final = range(2, 5)
"""Number of segments in the path of an app: owner and name, and others such as a leading `workflows`."""
MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
GONE: Final = frozenset({404, 410})
DENIED: Final = frozenset({401, 403})
RETRYABLE: Final = frozenset({202, 408, 425, 429})


class FalQueueClient:
    """Requests results, with a new connection for each request, because requests are rare."""

    def __init__(self, url: str, key: SecretStr, timeout: float = 30.0) -> None:
        self._base = URL(url)
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)

    async def result(self, model: str, request_id: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the output of a request. `model` is FAL's model id or the `response_url` of the request.

        Raises:
            SourceGoneError: FAL has no result or does not accept the key, or `model` or `request_id` is not valid.
            SourceUnavailableError: FAL did not answer this time, or the request is still running.
            FileProcessingError: the result is larger than MAX_RESULT_BYTES.
        """
        url = self._result_url(model, request_id)
        headers = {"Authorization": f"Key {self._key.get_secret_value()}", "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                _check_status(response.status)
                return await _read_json(response)
        except TimeoutError:
            raise SourceUnavailableError("FAL's queue did not answer in time; check FAL_QUEUE_URL") from None
        except aiohttp.ClientError as error:
            raise SourceUnavailableError(f"the request to FAL's queue failed: {type(error).__name__}") from None

    def _result_url(self, model: str, request_id: str) -> URL:
        request_segment = quote(request_id, safe="")
        if request_segment in {"", ".", ".."}:
            raise SourceGoneError("the generation's row has no FAL request id")
        app = self._app_of_response_url(model, request_segment) if "://" in model else _app_of_model(model)
        path = f"{self._base.raw_path.rstrip('/')}/{app}/requests/{request_segment}"
        return self._base.with_path(path, encoded=True).with_query(None)

    def _app_of_response_url(self, text: str, request_segment: str) -> str:
        """Return the path of the app in a row's `response_url`, which must be the URL of this request's result at FAL.

        End users may write the row, and FAL_KEY must not be sent to any other address. Raises SourceGoneError.
        """
        try:
            url = parse_url(text)
            is_fal = url.origin() == self._base.origin()
        except ValueError:
            is_fal = False
        if not is_fal:
            raise SourceGoneError(
                "the row's response_url is not on the host of FAL_QUEUE_URL, and FAL_KEY is sent to no other host"
            )
        base, ending = self._base.raw_path.rstrip("/") + "/", f"/requests/{request_segment}"
        if url.raw_path.startswith(base) and url.raw_path.endswith(ending):
            app = url.raw_path[len(base) : -len(ending)]
            segments = app.split("/")
            if len(segments) in APP_SEGMENTS and "requests" not in segments and all(map(SEGMENT.fullmatch, segments)):
                return app
        raise SourceGoneError(
            "the row's response_url is not the result of its request id (<FAL_QUEUE_URL>/<app>/requests/<request id>), "
            "and FAL_KEY is sent to no other path"
        )


def _app_of_model(model: str) -> str:
    """Return `<owner>/<name>` of the app of a model id, which may have a further path. Raises SourceGoneError."""
    owner, _, rest = model.strip().strip("/").partition("/")
    app = rest.partition("/")[0]
    if not SEGMENT.fullmatch(owner) or not SEGMENT.fullmatch(app):
        raise SourceGoneError(
            "the generation's row has no FAL model id (owner/app): set GENERATIONS_MODEL_COLUMN to the column with "
            "the model id or the response_url"
        )
    return f"{owner}/{app}"


def _check_status(status: int) -> None:
    """Return if the status is 200; otherwise raise SourceGoneError or SourceUnavailableError."""
    if status == HTTPStatus.OK:
        return
    if status in GONE:
        raise SourceGoneError(f"FAL's queue no longer has the result (it answered {status}; results expire)")
    if status in DENIED:
        raise SourceGoneError(f"FAL's queue does not accept FAL_KEY for this request (it answered {status})")
    if status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        hint = "the request is still running" if status == HTTPStatus.ACCEPTED else "try again later"
        raise SourceUnavailableError(f"FAL's queue answered {status}: {hint}")
    raise SourceGoneError(f"FAL's queue answered {status}")


async def _read_json(response: aiohttp.ClientResponse) -> Any:  # noqa: ANN401 - any JSON
    body = await read_limited(response, MAX_RESULT_BYTES)
    if body is None:
        raise FileProcessingError(f"FAL's result is larger than {MAX_RESULT_BYTES} bytes", code="source_gone")
    try:
        return parse_json(body.decode())
    except ValueError:
        raise SourceUnavailableError("FAL's queue answered something other than JSON") from None
