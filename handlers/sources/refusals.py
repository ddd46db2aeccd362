"""Placeholders for files that are not taken from an output, or for an output that cannot be read.

A placeholder takes the place of a file in a job, and a worker fails it with its code. So the reason is recorded in the
task, in the row's media and in a dead letter, as for any file that failed.
"""

from enum import StrEnum
from typing import Final

from schemas.jobs import JobFile
from schemas.urls import source_key

PREFIX: Final = "urn:outlast:"
"""No output, and no submission, can name a file with this scheme."""


class Refusal(StrEnum):
    """Why files are not taken. The values are error codes."""

    TOO_MANY_FILES = "too_many_files"
    OUTPUT_TOO_LARGE = "output_too_large"
    ROW_UNREADABLE = "row_unreadable"


MESSAGES: Final = {
    Refusal.TOO_MANY_FILES: "the output names more files than MAX_EVENT_FILES; only the first ones were taken",
    Refusal.OUTPUT_TOO_LARGE: "the output is too large to be read: it has too many bytes or JSON values; store the "
    "files of this generation through the task API",
    Refusal.ROW_UNREADABLE: "the generation's row cannot be read: its output is nested too deeply, or an id has more "
    "than 256 characters; correct the row and submit its files through the task API",
}


def placeholder(refusal: Refusal, position: int) -> JobFile:
    """Return the placeholder at a position of the output."""
    url = PREFIX + refusal
    return JobFile(position=position, url=url, source_key=source_key(url))


def refusal_of(url: str) -> Refusal | None:
    """Return the refusal that the URL of a placeholder stands for; None for any other URL."""
    if not url.startswith(PREFIX):
        return None
    code = url.removeprefix(PREFIX)
    return Refusal(code) if code in set(Refusal) else Refusal.ROW_UNREADABLE
