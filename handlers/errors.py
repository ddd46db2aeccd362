"""The error tree. Exceptions of libraries are translated into it once, where the library is called.

    FileProcessingError              processing_failed
    |-- FileSizeExceededError        size_exceeded
    |-- FileTypeNotSupportedError    type_not_supported
    |-- FileSkippedError             type_skipped          not stored on purpose: UNSUPPORTED_FILES=skip
    |-- FileCorruptedError           corrupted             does not decode completely
    |-- DecoderLimitError            decoder_limit         too many pixels or frames, too much memory or time
    |-- SourceForbiddenError         source_forbidden      not on the allow-list, private address, bad redirect
    |-- SourceGoneError              source_gone           404, 410, expired
    |-- SourceUnavailableError       source_unavailable    retryable: timeout, reset, busy (`statuses.py`), truncated
    |-- StorageRejectedError         storage_rejected      mime, size, bucket, key
    |-- StorageUnavailableError      storage_unavailable   retryable: timeout, 429, 5xx, and a 5xx sent as 400
    |-- DatabaseUnavailableError     database_unavailable  retryable
    |-- RowRejectedError             row_rejected          retryable, few times
    `-- GenerationNotFoundError      generation_not_found  retryable, few times

The base class is also raised with other codes. Retryable are `unexpected` (an unknown exception; few times),
`disk_full`, `decoder_crashed`, `decoder_failed`, `timed_out` (the attempt exceeded its time limit) and `soft_timeout`
(the file was not started in time). `no_files` means that FAL's webhook came without its result, and that the result
could not be requested from FAL; it is retryable if FAL did not answer. Final are `worker_killed`, `message_lost`,
`not_queued`, and those of `handlers/sources/refusals.py`: `too_many_files`, `output_too_large` and
`row_unreadable`. `not_forwarded` (retryable) is a webhook of FAL that the application did not accept, `not_notified`
(retryable) a notice that an address of NOTIFY_URLS did not accept.

Two final errors are raised as retryable, few times, where the file may come later: `corrupted` for an empty file, and
`source_gone` for a 404 of another host than FAL's, and for a large `data:` URI that is not in the row yet.
`decoder_limit` is retryable if the decoder hardly ran in its time.

`retryable`: a later attempt may succeed. `retry_after`: the time to wait in seconds, if the other side has named one.
"""

import errno
from enum import StrEnum
from typing import ClassVar

from schemas.formats import SKIPPED


class FileProcessingError(Exception):
    """A file or a job could not be processed. The base class of all errors that Outlast raises on purpose."""

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
    """The file has more bytes than MAX_FILE_SIZE_MB, or than the caller's `max_size`."""

    default_code = "size_exceeded"


class FileTypeNotSupportedError(FileProcessingError):
    """The content has a type that Outlast does not store. File name and Content-Type are not considered."""

    default_code = "type_not_supported"


class FileSkippedError(FileProcessingError):
    """The content has a type that Outlast does not store, and UNSUPPORTED_FILES=skip: this is no failure."""

    default_code = SKIPPED


class FileCorruptedError(FileProcessingError):
    """The content does not decode completely as the type that was detected, or the file is empty."""

    default_code = "corrupted"


class DecoderLimitError(FileProcessingError):
    """Decoding was stopped: too many pixels or frames, too much memory or time."""

    default_code = "decoder_limit"


class DenialReason(StrEnum):
    """The rule that refused a source URL. These are all values of the label `outlast_source_denied_total{reason}`."""

    MALFORMED = "malformed"
    """The URL cannot be parsed, or has control characters, a percent-encoded host or a trailing dot."""
    SCHEME = "scheme"
    """The scheme is not https, and the allow-list does not name the origin."""
    USERINFO = "userinfo"
    """The URL has a user name or password, even an empty one."""
    PATH = "path"
    """The path has control characters, is not UTF-8, or has a `..` segment that is percent-encoded or has parameters.

    A plain `..` segment is no reason: it is resolved before the check, as clients do.
    """
    NOT_ALLOWED = "not_allowed"
    """The host or path is not on SOURCE_ALLOWLIST."""
    NOT_ALLOWED_REPORTED = "not_allowed_reported"
    """As `not_allowed`, but with SOURCE_ALLOWLIST_MODE=report: the URL was not refused."""
    PORT = "port"
    """The port is not 443, and the allow-list does not name the origin."""
    ADDRESS = "address"
    """The host is or resolves to an address that is not public, or is an IP address in an unusual notation."""
    REDIRECTS = "redirects"
    """There were too many redirects."""


class SourceForbiddenError(FileProcessingError):
    """The URL must not be requested. `reason` must be a value of DenialReason, otherwise ValueError is raised."""

    default_code = "source_forbidden"

    def __init__(self, message: str, *, reason: str = DenialReason.NOT_ALLOWED) -> None:
        super().__init__(message)
        self.reason = DenialReason(reason)


class SourceGoneError(FileProcessingError):
    """The source no longer has the file, or refuses access to it."""

    default_code = "source_gone"


class SourceUnavailableError(FileProcessingError):
    """The source did not deliver the file this time. A later attempt may succeed."""

    default_code = "source_unavailable"
    default_retryable = True


class StorageRejectedError(FileProcessingError):
    """Storage refuses the object, and a later attempt would not change that."""

    default_code = "storage_rejected"


class StorageUnavailableError(FileProcessingError):
    """Storage could not store or return the object this time."""

    default_code = "storage_unavailable"
    default_retryable = True


class DatabaseUnavailableError(FileProcessingError):
    """The database, or the REST API in front of it, did not answer this time."""

    default_code = "database_unavailable"
    default_retryable = True


class RowRejectedError(FileProcessingError):
    """The database refuses the values of this call, or a user's own trigger does. Other rows are not affected.

    This error stands for the SQLSTATE classes 22 (data exception), 23 (integrity constraint violation) and 54 (program
    limit exceeded, for example a text that is too long for an index), and for P0001 (raised by a function).
    """

    default_code = "row_rejected"
    default_retryable = True


class GenerationNotFoundError(FileProcessingError):
    """No row has FAL's request id yet, or several have it. The application may write the row a moment later."""

    default_code = "generation_not_found"
    default_retryable = True


def is_disk_full(error: BaseException) -> bool:
    """Return whether the system refused a write because the disk or the quota is full."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
