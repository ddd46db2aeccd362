"""Source URLs: the key of a file, and the form in which a URL may be logged."""

import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import Final

from yarl import URL

MAX_URL_CHARACTERS: Final = 8192
"""Maximum length of an http(s) URL. A longer one is not parsed, and not downloaded. A `data:` URI may be longer."""
MAX_SOURCE_URL_CHARACTERS: Final = 1000
"""Maximum length of a redacted URL in the media of a row."""
MAX_HOST_CHARACTERS: Final = 253
MAX_LABEL_CHARACTERS: Final = 63
"""Maximum lengths of a host name and of each label between its dots (RFC 1035, 2.3.4)."""
AUTHORITY: Final = re.compile(r"[^/?#]*/[\t\r\n]*/([^/?#]*)")
"""Finds the part of a URL that yarl reads as user name, host and port. yarl ignores tabs and line breaks."""
USER: Final = re.compile(r"(?<=//)[^/]*@")
HOST_SEPARATORS: Final = re.compile("[.:\N{IDEOGRAPHIC FULL STOP}]")
SIGNING_PARAMETERS: Final = (
    "x-goog-",
    "x-amz-",
    "awsaccesskeyid",
    "googleaccessid",
    "expires",
    "signature",
    "token",
    "key-pair-id",
    "policy",
)
"""Prefixes of the parameters that sign a link to S3, Google Cloud Storage, CloudFront or Supabase Storage."""
AZURE_PARAMETERS: Final = frozenset(
    [
        *("sv", "ss", "srt", "sr", "sp", "se", "st", "spr", "sip", "si", "sig", "ses"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sdd"),
    ]
)
"""The parameters of Azure's signed links, which always have `sig` (Azure Storage, "Create a service SAS")."""
FAL_PARAMETERS: Final = frozenset({"identity", "v"})
"""Parameters of FAL's CDN that do not select a file: the signature of a link, and a version that bypasses caches."""
FAL_CDN_HOST: Final = "fal.media"
SAME_HOSTS: Final = {"v3.fal.media": "v3b.fal.media"}
"""Aliases of hosts: both names serve the same files, and FAL's results have either."""


@lru_cache(maxsize=64)  # a URL is parsed several times in a row, and a hostile one takes long each time
def parse_url(text: str) -> URL:
    """Parse an untrusted URL. yarl.URL alone takes seconds for a long host that is not a valid name.

    Raises:
        ValueError: the URL or its host is invalid or too long.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise ValueError(f"it has more than {MAX_URL_CHARACTERS} characters")
    authority = AUTHORITY.match(text)
    if authority is not None and not _has_host_length(authority[1].rpartition("@")[2]):
        raise ValueError("the host is not a valid name")
    return URL(text)


def is_data_uri(url: str) -> bool:
    """Return whether `url` is a `data:` URI, which contains the file itself (RFC 2397), or a `data_reference`."""
    return url[:5].lower() == "data:"


def source_key(url: str) -> str:
    """Return a key of 32 hex digits that identifies a source file within its generation.

    Query parameters that only sign a link or limit its validity are ignored, so a renewed link has the same key. The
    key is a hash, because the rest of the query may be confidential and the key is stored in a table. Keys must not
    change between versions: a file with another key is stored again.
    """
    if is_data_uri(url):
        return _digest(url)
    try:
        parsed = parse_url(url)
        ignored = _ignored_parameters(parsed)
        query = sorted((k, v) for k, v in parsed.query.items() if k.lower() not in ignored)
        authority = parsed.raw_authority.lower()
        return _digest(f"{parsed.scheme}://{SAME_HOSTS.get(authority, authority)}{parsed.raw_path}?{query}")
    except ValueError:
        return _digest(url)


def _ignored_parameters(url: URL) -> set[str]:
    """Return the names, in lower case, of those query parameters that do not select a file."""
    names = {name.lower() for name in url.query}
    ignored = {name for name in names if name.startswith(SIGNING_PARAMETERS)}
    if "sig" in names and names & {"se", "si"}:  # the expiry, or the stored policy that has it
        ignored |= names & AZURE_PARAMETERS
    if f".{url.raw_host}".endswith(f".{FAL_CDN_HOST}"):
        ignored |= names & FAL_PARAMETERS
    return ignored


def data_reference(url: str) -> str:
    """Return a reference to a `data:` URI without its content: `data:<type>;sha256=<hash of the URI in hex>`."""
    media_type = url[5:200].partition(",")[0].partition(";")[0]
    return f"data:{media_type};sha256={hashlib.sha256(url.encode()).hexdigest()}"


def is_data_reference(url: str) -> bool:
    """Return whether `url` has the form of a reference made by `data_reference`."""
    return is_data_uri(url) and ";sha256=" in url[:200] and "," not in url[:200]


def redact_url(url: str) -> str:
    """Return a form to log: without query, fragment and user name, and a `data_reference` instead of a `data:` URI."""
    if is_data_uri(url):
        return url if is_data_reference(url) else data_reference(url)
    url = url[:MAX_URL_CHARACTERS]
    try:
        parsed = parse_url(url).with_query(None).with_fragment(None)
        return str(parsed.with_user(None) if parsed.absolute else parsed)
    except ValueError:
        return USER.sub("", url.partition("?")[0].partition("#")[0])


def name_from_url(url: str) -> str:
    """Return the last segment of the URL's path, or `file` if it is empty."""
    if is_data_uri(url):
        return "file"
    try:
        return base_name(parse_url(url).name) or "file"
    except ValueError:
        return "file"


def base_name(text: str) -> str:
    """Return a name without folders: the part after the last slash or backslash, empty if that is `.` or `..`."""
    name = printable_name(text[-2000:].replace("\\", "/").rpartition("/")[2]).strip()
    return "" if name in {".", ".."} else name


def printable_name(text: str) -> str:
    """Return at most 255 characters of a name, without control characters (jsonb cannot store NUL)."""
    text = text[:1000]
    if not text.isprintable():
        text = "".join(character for character in text if character.isprintable())
    return text[:255]


def _has_host_length(host_and_port: str) -> bool:
    """Return whether the lengths of a host and its labels are valid.

    The NFKC form is measured, because the host is looked up in that form, and one character may become many.
    """
    if len(host_and_port) > MAX_HOST_CHARACTERS + len(":65535"):
        return False
    parts = HOST_SEPARATORS.split(unicodedata.normalize("NFKC", host_and_port))
    return sum(map(len, parts)) <= MAX_HOST_CHARACTERS and max(map(len, parts)) <= MAX_LABEL_CHARACTERS


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
