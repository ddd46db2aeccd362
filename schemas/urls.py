"""Source URLs: how a file is identified, and how its address may be shown to people."""

import hashlib
from typing import Final

from yarl import URL

SIGNING_PARAMETERS: Final = (
    "x-goog-",
    "x-amz-",
    "googleaccessid",
    "expires",
    "signature",
    "token",
    "key-pair-id",
    "policy",
)


def is_data_uri(url: str) -> bool:
    """Whether the URL carries its content itself (RFC 2397)."""
    return url[:5].lower() == "data:"


def source_key(url: str) -> str:
    """Identify a source file within its generation, whoever signed the link to it and until when.

    Query parameters that only sign or expire a link (Google's, Amazon's, plain tokens) do not count, so a refreshed
    link is the same file. Hashed, since what remains of a query is nobody's business in a table. 32 hex digits.
    """
    if is_data_uri(url):
        return _digest(url)
    try:
        parsed = URL(url)
        query = sorted((k, v) for k, v in parsed.query.items() if not k.lower().startswith(SIGNING_PARAMETERS))
        return _digest(f"{parsed.scheme}://{parsed.raw_authority.lower()}{parsed.raw_path}?{query}")
    except ValueError:
        return _digest(url)


def data_reference(url: str) -> str:
    """Name a `data:` URI without its content: `data:<type>;sha256=<hex digest of the whole URI>`."""
    media_type = url[5:200].partition(",")[0].partition(";")[0]
    return f"data:{media_type};sha256={hashlib.sha256(url.encode()).hexdigest()}"


def is_data_reference(url: str) -> bool:
    """Whether this is what `data_reference` left of a `data:` URI."""
    return is_data_uri(url) and ";sha256=" in url[:200] and "," not in url[:200]


def redact_url(url: str) -> str:
    """Return the form of a URL that may be logged and stored: no query, no fragment, no user, no inline content."""
    if is_data_uri(url):
        return url if is_data_reference(url) else data_reference(url)
    try:
        parsed = URL(url).with_query(None).with_fragment(None)
        return str(parsed.with_user(None) if parsed.absolute else parsed)
    except ValueError:
        return url.partition("?")[0].partition("#")[0]


def name_from_url(url: str) -> str:
    """Return the last part of the URL's path, or `file` where there is none."""
    if is_data_uri(url):
        return "file"
    try:
        return printable_name(URL(url).name) or "file"
    except ValueError:
        return "file"


def printable_name(text: str) -> str:
    """Return at most 255 characters of a name, none of them a control character (jsonb takes no NUL)."""
    text = text[:1000]
    if not text.isprintable():
        text = "".join(character for character in text if character.isprintable())
    return text[:255]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
