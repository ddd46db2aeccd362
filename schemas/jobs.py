"""The job: one message on the queue, with at most MAX_BATCH_SIZE files of one generation."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID, uuid5

from pydantic import Field

from schemas.base import Frozen
from schemas.formats import ImageFormat
from schemas.urls import base_name, name_from_url

JOB_TYPE: Final = "outlast.job.v1"
MAX_JOB_BYTES: Final = 8 * 1024 * 1024
NAMESPACE: Final = UUID("6f0b7f0e-6c1d-5c43-9f0e-3f7b6a0d8b11")
"""The namespace of all derived ids (RFC 9562, UUIDv5). A change would change the ids of all tasks and files."""

Origin = Literal["supabase", "fal", "api", "reconcile", "celery", "adopt"]
"""`adopt`: a generation from before the installation, which `outlast adopt` found."""


class Queue(StrEnum):
    """Routing keys of the work exchange. The name of the queue is `outlast.<key>`."""

    FILES = "file_processing"
    BULK = "file_processing.bulk"
    OPTIMIZATION = "optimization"
    MAINTENANCE = "maintenance"


class Profile(Frozen):
    """How files are to be stored. The same files with another profile are another task.

    `keep_provenance` keeps the metadata that says how an image was made, also with `strip_metadata`.
    """

    format: ImageFormat = ImageFormat.AUTO
    quality: int = Field(default=85, ge=1, le=100)
    strip_metadata: bool = True
    keep_provenance: bool = False

    @property
    def key(self) -> str:
        """A short stable name, for example `auto-q85-strip`. `keep_provenance` appears only if it is set."""
        name = f"{self.format}-q{self.quality}-{'strip' if self.strip_metadata else 'meta'}"
        return f"{name}-provenance" if self.keep_provenance else name


class CeleryReplyAddress(Frozen):
    """Where a Celery producer expects the result: a queue and a correlation id (Celery's `rpc://`)."""

    to: str
    correlation_id: str


class JobFile(Frozen):
    """One file of a job. `position` counts the files of the event's output from 0.

    If the content of a `data:` URI is too large for a message, `url` is a `data_reference`, and the worker reads the
    content from the row. `field` says where in the output the file is; None if the job was not planned from an output.
    """

    position: int = Field(ge=0)
    url: str = Field(min_length=1)
    source_key: str
    file_name: str | None = None
    field: str | None = None

    @property
    def original_filename(self) -> str:
        """The name in the output, otherwise that in the URL."""
        return base_name(self.file_name or "") or name_from_url(self.url)


class SkippedFile(Frozen):
    """A file that the output names, and that is not taken on purpose. `code` says why.

    `position` and `field` are those of a JobFile. `source_url` is redacted, and cut to MAX_SOURCE_URL_CHARACTERS.
    """

    position: int = Field(ge=0)
    source_url: str
    source_key: str
    original_filename: str
    field: str
    code: str


class Job(Frozen):
    """The body of a queue message (`type=outlast.job.v1`).

    `total_files` and `output_key` are those of the event, also when it was split into several jobs. The job does not
    start before `not_before`. `skipped` are files of the same output that are only recorded; `total_files` does not
    count them. `reply` is set for a job from Celery whose producer expects the result.
    """

    task_id: UUID
    generation_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    source: Origin
    files: tuple[JobFile, ...]
    skipped: tuple[SkippedFile, ...] = ()
    total_files: int = Field(ge=0)
    output_key: str
    profile: Profile = Profile()
    queue: Queue = Queue.FILES
    max_concurrent: int | None = Field(default=None, ge=1)
    event_at: datetime
    not_before: datetime | None = None
    reply: CeleryReplyAddress | None = None

    @property
    def is_adopted(self) -> bool:
        """Whether its links are old, so that dead ones are expected."""
        return self.source == "adopt"

    def limited_to(self, source_keys: Sequence[str]) -> "Job":
        """Return this job with only the files of these keys. The task id does not change."""
        files = tuple(file for file in self.files if file.source_key in source_keys)
        return self.model_copy(update={"files": files})


def task_id_for(owner: str, files: Sequence[JobFile | SkippedFile], profile: Profile) -> UUID:
    """Derive the id of a task. An event that is delivered again gets the same id.

    `owner` is the generation's id, or `fal:<request id>` when only that is known.
    """
    parts = [owner, profile.key, *(f"{file.position}:{file.source_key}" for file in files)]
    return uuid5(NAMESPACE, "\n".join(parts))


def file_id_for(generation_id: str, key: str) -> UUID:
    """Derive the id of a stored file from its generation and source key."""
    return uuid5(NAMESPACE, f"file\n{generation_id}\n{key}")


def output_key_for(source_keys: Sequence[str]) -> str:
    """Return a key for an output: events with the same files in the same order have the same output."""
    return hashlib.sha256("\n".join(source_keys).encode()).hexdigest()[:32]
