"""FAL's files: which URLs are FAL's, and signed links to files that only some accounts may read.

FAL documents the signing (fal.ai/docs, Platform APIs, "Sign file URL"): `POST <FAL_API_URL>/storage/files/sign?url=...`
with `Authorization: Key <FAL_KEY>`; the key needs the permission `assets:read`. The answer has the link with
`?identity=...`. The key is sent to FAL's API only, not to the hosts of files, and not across redirects.
"""

import json
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from handlers.download.allowlist import Allowlist
from handlers.download.source_url import normalized_path, parse_source_url
from handlers.errors import SourceForbiddenError, SourceGoneError, SourceUnavailableError
from handlers.settings import FAL_CDN, FAL_SOURCES, MediaSettings
from schemas.urls import redact_url

SIGNED_LINK_SECONDS: Final = 3600
"""How long a signed link is valid: longer than a download takes. Each attempt requests a new link."""
MAX_ANSWER_BYTES: Final = 64 * 1024
TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)

_SOURCES: Final = Allowlist(FAL_SOURCES)
_CDN: Final = Allowlist(FAL_CDN)


def is_fal_url(url: str) -> bool:
    """Return whether the URL is on FAL_SOURCES. FAL's files exist before their URLs are sent, so a 404 is final."""
    return _SOURCES.contains(url)


class FalFiles:
    """Requests signed links from FAL, with a new connection for each request, because private files are rare."""

    def __init__(self, settings: MediaSettings) -> None:
        self._endpoint = URL(settings.fal_api_url) / "storage/files/sign"
        self._key = settings.fal_key

    async def signed_url(self, url: str) -> str | None:
        """Return a signed link to a file on FAL's CDN.

        None if there is no FAL_KEY, if the URL is not on FAL's CDN, or if FAL does not know the file.

        Raises:
            SourceGoneError: FAL does not accept the key.
            SourceUnavailableError: FAL did not answer this time, or with something other than a link to the file.
        """
        if self._key is None or not _CDN.contains(url):
            return None
        file = parse_source_url(url).with_query(None)
        headers = {"Authorization": f"Key {self._key.get_secret_value()}", "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(
                    self._endpoint.with_query(url=str(file)),
                    headers=headers,
                    json={"expiration_seconds": SIGNED_LINK_SECONDS},
                    allow_redirects=False,
                ) as response,
            ):
                if not _is_signed(response.status, redact_url(url)):
                    return None
                body = await read_limited(response, MAX_ANSWER_BYTES)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SourceUnavailableError(
                f"{redact_url(url)}: the request for a signed link failed: {type(error).__name__}; check FAL_API_URL"
            ) from None
        return _checked_link(body or b"", file)


async def read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Return a response's body; None when it has more than `limit` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _is_signed(status: int, url: str) -> bool:
    """Return whether FAL's answer has a link; False if FAL does not know the file. Raises as `signed_url`."""
    if status == HTTPStatus.OK:
        return True
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise SourceGoneError(
            f"{url}: access is refused, and FAL does not sign a link with this FAL_KEY (it answered {status}); "
            "use a key of the file's account with the permission assets:read"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SourceUnavailableError(f"{url}: FAL's API answered {status} to the request for a signed link")
    return False


def _checked_link(body: bytes, file: URL) -> str:
    """Return the link in FAL's answer; raise SourceUnavailableError unless it leads to the same file on FAL's CDN."""
    try:
        text = json.loads(body)["signed_url"]
        link = parse_source_url(text)
        if _CDN.contains(text) and normalized_path(link) == normalized_path(file):
            return str(link)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SourceForbiddenError):
        pass
    raise SourceUnavailableError(f"{redact_url(str(file))}: FAL's API answered without a signed link to this file")
