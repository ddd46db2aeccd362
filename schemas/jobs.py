"""The job: one message on the queue, one generation of at most `MAX_BATCH_SIZE` files."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID, uuid5

from pydantic import Field

from schemas.base import Frozen
from schemas.formats import ImageFormat

JOB_TYPE: Final = "outlast.job.v1"
MAX_JOB_BYTES: Final = 8 * 1024 * 1024
NAMESPACE: Final = UUID("6f0b7f0e-6c1d-5c43-9f0e-3f7b6a0d8b11")
"""Namespace of every identifier Outlast derives (RFC 9562, UUIDv5). Changing it renames all tasks and files."""

Origin = Literal["supabase", "fal", "api", "reconcile", "celery"]


class Queue(StrEnum):
    """Routing keys of the work exchange; the queue itself is called `outlast.<key>`."""

    FILES = "file_processing"
    BULK = "file_processing.bulk"
    OPTIMIZATION = "optimization"
    MAINTENANCE = "maintenance"


class Profile(Frozen):
    """How a file is to be stored. Two jobs with the same sources and another profile are different tasks.

    `keep_provenance`: what a picture says of who or what made it stays, also where metadata goes.
    """

    format: ImageFormat = ImageFormat.AUTO
    quality: int = Field(default=85, ge=1, le=100)
    strip_metadata: bool = True
    keep_provenance: bool = False

    @property
    def key(self) -> str:
        """A short stable name, e.g. `auto-q85-strip`; what is at its default adds nothing, so that names stay."""
        name = f"{self.format}-q{self.quality}-{'strip' if self.strip_metadata else 'meta'}"
        return f"{name}-provenance" if self.keep_provenance else name


class CeleryReply(Frozen):
    """Who waits for a task's result: a queue, and the id under which it is expected there (Celery's `rpc://`)."""

    to: str
    correlation_id: str


class JobFile(Frozen):
    """One file of a job: `position` in the event's output, counted from 0, and where to fetch it.

    `url` is a `data_reference` where the content was too large for a message; the worker reads it from the row.
    """

    position: int = Field(ge=0)
    url: str = Field(min_length=1)
    source_key: str
    file_name: str | None = None


class Job(Frozen):
    """The body of a queue message (`type=outlast.job.v1`).

    `total_files` and `output_key` are the whole event's, also where it was split into several jobs. It is not begun
    `not_before`; `reply` is who waits for the result.
    """

    task_id: UUID
    generation_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    source: Origin
    files: tuple[JobFile, ...]
    total_files: int = Field(ge=0)
    output_key: str
    profile: Profile = Profile()
    queue: Queue = Queue.FILES
    max_concurrent: int | None = Field(default=None, ge=1)
    event_at: datetime
    not_before: datetime | None = None
    reply: CeleryReply | None = None

    def limited_to(self, source_keys: Sequence[str]) -> "Job":
        """Return this job with just the files of these keys; the task stays the same."""
        kept = tuple(file for file in self.files if file.source_key in source_keys)
        return self.model_copy(update={"files": kept})


def task_id_for(owner: str, files: Sequence[JobFile], profile: Profile) -> UUID:
    """Derive the task's identifier: the same event is the same task, however often it is delivered.

    `owner` is the generation's id, or `fal:` and the request id where only that is known.
    """
    parts = [owner, profile.key, *(f"{file.position}:{file.source_key}" for file in files)]
    return uuid5(NAMESPACE, "\n".join(parts))


def file_id_for(generation_id: str, key: str) -> UUID:
    """Derive a stored file's identifier from its generation and source key."""
    return uuid5(NAMESPACE, f"file\n{generation_id}\n{key}")


def output_key_for(source_keys: Sequence[str]) -> str:
    """Identify an output by its files: two events with the same files in the same order tell of the same output."""
    return hashlib.sha256("\n".join(source_keys).encode()).hexdigest()[:32]
