"""The job: one message on the queue, one generation of at most `MAX_BATCH_SIZE` files."""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID, uuid5

from pydantic import Field
from yarl import URL

from schemas.base import Frozen

JOB_TYPE: Final = "outlast.job.v1"
MAX_JOB_BYTES: Final = 8 * 1024 * 1024
NAMESPACE: Final = UUID("6f0b7f0e-6c1d-5c43-9f0e-3f7b6a0d8b11")
"""Namespace of every identifier Outlast derives (RFC 9562 UUIDv5). Changing it renames all tasks and files."""

SIGNING_PARAMETERS: Final = ("x-goog-", "x-amz-", "googleaccessid", "expires", "signature", "token", "key-pair-id", "policy")


class Queue(StrEnum):
    """Routing keys of the work exchange; the queue itself is called `outlast.<key>`."""

    FILES = "file_processing"
    BULK = "file_processing.bulk"
    OPTIMIZATION = "optimization"
    MAINTENANCE = "maintenance"


class ImageFormat(StrEnum):
    """What stored images become; `auto` is JPEG when opaque, WebP with alpha or animation."""

    AUTO = "auto"
    KEEP = "keep"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"


class Profile(Frozen):
    """How a file is to be stored. Two jobs with the same sources and another profile are different tasks."""

    format: ImageFormat = ImageFormat.AUTO
    quality: int = Field(default=85, ge=1, le=100)
    strip_metadata: bool = True

    @property
    def key(self) -> str:
        """A short stable name, e.g. `auto-q85-strip`."""
        return f"{self.format}-q{self.quality}-{'strip' if self.strip_metadata else 'meta'}"


class JobFile(Frozen):
    """One file of a job: `position` in the event's output, counted from 0, and where to fetch it."""

    position: int = Field(ge=0)
    url: str = Field(min_length=1)
    source_key: str
    file_name: str | None = None


class Job(Frozen):
    """The body of a queue message (`type=outlast.job.v1`)."""

    task_id: UUID
    generation_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    source: Literal["supabase", "fal", "api", "reconcile", "celery"]
    files: tuple[JobFile, ...] = Field(min_length=1)
    total_files: int = Field(ge=1)
    output_key: str
    profile: Profile = Profile()
    queue: Queue = Queue.FILES
    max_concurrent: int | None = Field(default=None, ge=1)
    event_at: datetime


def source_key(url: str) -> str:
    """Identify a source file within its generation, whoever signed the link to it and until when.

    Query parameters that only sign or expire a link (Google's and Amazon's, FAL's tokens) do not count, so a
    refreshed link is the same file. Hashed, since what remains of a query is nobody's business in a table.
    """
    if url.startswith("data:"):
        return hashlib.sha256(url.encode()).hexdigest()[:32]
    parsed = URL(url, encoded=True)
    kept = [(k, v) for k, v in parsed.query.items() if not k.lower().startswith(SIGNING_PARAMETERS)]
    plain = f"{str(parsed.origin()).lower()}{parsed.raw_path}?{kept if kept else ''}"
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


def task_id_for(owner: str, files: tuple[JobFile, ...], profile: Profile) -> UUID:
    """Derive the task's identifier: the same event is the same task, however often it is delivered.

    `owner` is the generation's id, or `fal:` and the request id where only that is known.
    """
    parts = [owner, profile.key, *(f"{file.position}:{file.source_key}" for file in files)]
    return uuid5(NAMESPACE, "\n".join(parts))


def file_id_for(generation_id: str, key: str) -> UUID:
    """Derive a stored file's identifier from its generation and source key."""
    return uuid5(NAMESPACE, f"file\n{generation_id}\n{key}")
