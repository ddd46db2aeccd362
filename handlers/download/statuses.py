"""What each HTTP status of a source says about the file.

RFC 9110, section 15, defines the statuses. The reasons name what real servers mean by them: S3, Google Cloud Storage
(GCS), Azure Blob Storage and FAL. A server that names a time with Retry-After (10.2.3) expects another request, so any
4xx with it is retried.
"""

from enum import Enum, auto
from typing import Final

CLIENT_ERRORS: Final = 400
SERVER_ERRORS: Final = 500
"""The first status of each class."""


class StatusMeaning(Enum):
    """What to do after a status."""

    CONTENT = auto()
    """The body is the file."""
    PARTIAL = auto()
    """The body is a part of the file, which may be all of it."""
    LATER = auto()
    """The source does not deliver the file now: retry."""
    MISSING = auto()
    """The file does not exist, or not yet."""
    REFUSED = auto()
    """The link is not valid, or no longer: final."""
    OTHER = auto()
    """Another answer without the file: final."""


_MEANINGS: Final = {
    200: StatusMeaning.CONTENT,
    202: StatusMeaning.LATER,  # accepted: the file is still being made
    203: StatusMeaning.CONTENT,  # a proxy changed something; what it changed is seen when the file is decoded
    206: StatusMeaning.PARTIAL,  # caches send it without a Range request, sometimes with the whole file
    401: StatusMeaning.REFUSED,  # FAL: only some accounts may read the file
    403: StatusMeaning.REFUSED,  # S3, GCS, Azure: the signature has expired; FAL: as 401
    404: StatusMeaning.MISSING,
    408: StatusMeaning.LATER,  # the server did not wait for the request
    409: StatusMeaning.LATER,  # S3 OperationAborted: try again; Azure BlobBeingRehydrated: hours
    410: StatusMeaning.REFUSED,
    421: StatusMeaning.LATER,  # this connection cannot serve the host; another one can (15.5.20)
    423: StatusMeaning.LATER,  # locked (RFC 4918, 11.3): someone still writes the file
    425: StatusMeaning.LATER,  # too early (RFC 8470)
    429: StatusMeaning.LATER,  # rate limit
}


def meaning_of(status: int, *, retry_later: bool) -> StatusMeaning:
    """Return what a status means. `retry_later`: the response has a valid Retry-After header."""
    if status >= SERVER_ERRORS or (retry_later and status >= CLIENT_ERRORS):
        return StatusMeaning.LATER
    return _MEANINGS.get(status, StatusMeaning.OTHER)
