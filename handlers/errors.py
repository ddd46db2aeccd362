"""The error tree. Foreign exceptions are translated into it once, at the boundary that met them.

    FileProcessingError              processing_failed
    |-- FileSizeExceededError        size_exceeded
    |-- FileTypeNotSupportedError    type_not_supported
    |-- FileCorruptedError           corrupted             does not decode whole
    |-- DecoderLimitError            decoder_limit         pixels, frames, memory or time
    |-- SourceForbiddenError         source_forbidden      not on the allow-list, private address, bad redirect
    |-- SourceGoneError              source_gone           404, 410, expired
    |-- SourceUnavailableError       source_unavailable    retryable: timeout, reset, 408/425/429/5xx, truncated
    |-- StorageRejectedError         storage_rejected      mime, size, bucket, key
    |-- StorageUnavailableError      storage_unavailable   retryable: timeout, 429, 5xx, 400s that hide a 5xx
    |-- DatabaseUnavailableError     database_unavailable  retryable
    `-- GenerationNotFoundError      generation_not_found  retryable, few times

Of the base class itself, with a code of their own, all retryable: `unexpected` (nobody foresaw it; few times),
`disk_full`, `decoder_crashed`, `decoder_failed`, `timed_out` (the whole attempt), `soft_timeout` (not begun in time);
and, final, `no_files` (FAL's webhook came without its result), `worker_killed`, `message_lost`, `not_queued`.

`retryable` says whether trying the same thing later may help; `retry_after` (seconds) when the other side said so.
"""

from enum import StrEnum
from typing import ClassVar


class FileProcessingError(Exception):
    """A file, or a job, could not be processed. Base of everything Outlast raises on purpose."""

    default_code: ClassVar[str] = "processing_failed"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after


class FileSizeExceededError(FileProcessingError):
    """More bytes than `MAX_FILE_SIZE_MB` (or the caller's `max_size`) were received."""

    default_code = "size_exceeded"


class FileTypeNotSupportedError(FileProcessingError):
    """The content is of no type that Outlast stores, whatever its name or header says."""

    default_code = "type_not_supported"


class FileCorruptedError(FileProcessingError):
    """The content is of a known type and does not decode whole."""

    default_code = "corrupted"


class DecoderLimitError(FileProcessingError):
    """Decoding was stopped: too many pixels or frames, too much memory or time."""

    default_code = "decoder_limit"


class DenialReason(StrEnum):
    """Every rule that refuses a source URL: the values of `outlast_source_denied_total{reason}`, and no others."""

    MALFORMED = "malformed"
    """It cannot be read, or is spelled as no source spells it: control characters, an encoded host, a trailing dot."""
    SCHEME = "scheme"
    """Not https, and not an origin that the allow-list names."""
    USERINFO = "userinfo"
    """It carries a user name or a password, be they empty."""
    PATH = "path"
    """Its path climbs (`..`, however encoded), hides control characters, or is not UTF-8."""
    NOT_ALLOWED = "not_allowed"
    """Host or path is not on SOURCE_ALLOWLIST."""
    NOT_ALLOWED_REPORTED = "not_allowed_reported"
    """The same with SOURCE_ALLOWLIST_MODE=report: would be refused, was fetched."""
    PORT = "port"
    """Not port 443, and not an origin that the allow-list names."""
    ADDRESS = "address"
    """Its host is, or resolves to, an address that is not public; or it spells an address another way than plainly."""
    REDIRECTS = "redirects"
    """More redirects than are followed."""


class SourceForbiddenError(FileProcessingError):
    """The URL must not be fetched. `reason` is the rule that refused it; ValueError if that is no `DenialReason`."""

    default_code = "source_forbidden"

    def __init__(self, message: str, *, reason: str = DenialReason.NOT_ALLOWED) -> None:
        super().__init__(message)
        self.reason = DenialReason(reason)


class SourceGoneError(FileProcessingError):
    """The source says that the file is not there any more."""

    default_code = "source_gone"


class SourceUnavailableError(FileProcessingError):
    """The source did not deliver this time."""

    default_code = "source_unavailable"
    default_retryable = True


class StorageRejectedError(FileProcessingError):
    """Storage will never take this object as it is."""

    default_code = "storage_rejected"


class StorageUnavailableError(FileProcessingError):
    """Storage did not take the object this time."""

    default_code = "storage_unavailable"
    default_retryable = True


class DatabaseUnavailableError(FileProcessingError):
    """The database, or the REST API before it, did not answer this time."""

    default_code = "database_unavailable"
    default_retryable = True


class GenerationNotFoundError(FileProcessingError):
    """No generation carries FAL's request id; its row may be written a moment later."""

    default_code = "generation_not_found"
    default_retryable = True
