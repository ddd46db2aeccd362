"""Describes failed HTTP requests. The texts of aiohttp's exceptions are often empty, or contain an address."""

from typing import Final

import aiohttp

TEXTS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TimeoutError, "no answer in time"),
    (aiohttp.ClientPayloadError, "the connection ended before the end of the response"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (aiohttp.ClientConnectorCertificateError, "the server's certificate is not valid"),
    (aiohttp.ClientConnectorDNSError, "there is no such host"),
    (aiohttp.ClientOSError, "the server cannot be reached"),
)


def failure_text(error: Exception) -> str:
    """Return what went wrong, with the name of the exception, which people can search for."""
    name = type(error).__name__
    text = next((text for kind, text in TEXTS if isinstance(error, kind)), None)
    return name if text is None else f"{text} ({name})"
