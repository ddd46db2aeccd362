"""The job: one message on the queue, with at most MAX_BATCH_SIZE files of one generation."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from pydantic import Field, StringConstraints

from schemas.base import Frozen
from schemas.formats import ImageFormat
from schemas.urls import base_name, name_from_url, redact_url
from schemas.variants import Variants, parse_variants, variants_text

JOB_TYPE: Final = "outlast.job.v1"
MAX_JOB_BYTES: Final = 8 * 1024 * 1024
NAMESPACE: Final = UUID("6f0b7f0e-6c1d-5c43-9f0e-3f7b6a0d8b11")
"""The namespace of all derived ids (RFC 9562, UUIDv5). A change would change the ids of all tasks and files."""

DEFAULT_BINDING: Final = "generations"
"""The name of the first binding. Messages and rows of earlier versions name no binding, and belong to this one."""

BindingName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""The name of a binding: a key of the table `outlast_bindings`."""

Origin = Literal["supabase", "fal", "api", "reconcile", "celery", "adopt"]
"""`adopt`: a generation from before the installation, which `outlast adopt` found."""


VARIANTS_SEPARATOR: Final = "+"
"""Separates the variants from the rest of a profile's key, also in SQL."""


class Queue(StrEnum):
    """Routing keys of the work exchange. The name of the queue is `outlast.<key>`."""

    FILES = "file_processing"
    BULK = "file_processing.bulk"
    OPTIMIZATION = "optimization"
    MAINTENANCE = "maintenance"
    WEBHOOKS = "webhooks"


class Profile(Frozen):
    """How files are to be stored. The same files with another profile are another task.

    With `ssim`, a still picture gets the least quality at which its similarity (SSIM) to the source is at least `ssim`.
    `keep_provenance` keeps the metadata that says how an image was made, also with `strip_metadata`. `variants` are
    smaller versions of each picture or poster, or a waveform.
    """

    format: ImageFormat = ImageFormat.AUTO
    quality: int = Field(default=85, ge=1, le=100)
    ssim: float | None = Field(default=None, gt=0.5, lt=1)
    strip_metadata: bool = True
    keep_provenance: bool = False
    variants: Variants = ()

    @property
    def picture_key(self) -> str:
        """A stable name of the profile without its variants, for example `auto-q85-strip`."""
        quality = self.quality if self.ssim is None else f"auto{self.ssim:.6f}".rstrip("0")
        name = f"{self.format}-q{quality}-{'strip' if self.strip_metadata else 'meta'}"
        return f"{name}-provenance" if self.keep_provenance else name

    @property
    def key(self) -> str:
        """A stable name of the profile, for example `auto-q85-strip`, or `auto-q85-strip+thumb:256` with variants."""
        if not self.variants:
            return self.picture_key
        return f"{self.picture_key}{VARIANTS_SEPARATOR}{variants_text(self.variants)}"

    def with_variants(self, text: str) -> "Profile":
        """Return this profile with the variants in `text`; see `parse_variants`. Raises ValueError."""
        return self.model_copy(update={"variants": parse_variants(text)})


class CeleryReplyAddress(Frozen):
    """Where a Celery producer expects the result (Celery's `rpc://`): the queue `to`, and a correlation id."""

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
        """The file name in the output; without one, the file name in the URL."""
        return base_name(self.file_name or "") or name_from_url(self.url)


class SkippedFile(Frozen):
    """A file that the output names, but that is not stored on purpose. `code` says why.

    `position` and `field` are those of a JobFile. `source_url` is redacted, and cut to MAX_SOURCE_URL_CHARACTERS.
    """

    position: int = Field(ge=0)
    source_url: str
    source_key: str
    original_filename: str
    field: str
    code: str


class NamedGeneration(Frozen):
    """The generation that the address of FAL's webhook names. FAL's signature does not cover the address."""

    binding: BindingName = DEFAULT_BINDING
    generation_id: str = Field(min_length=1)


class FalResult(Frozen):
    """The result of a request to FAL, as its webhook reports it, for a binding with `fal_finishes`.

    `output` is JSON text. It is None if the webhook has no output (then a worker requests the output from FAL), or if
    the output is too large for a message. `urls` are those of the files in the output.
    """

    status: Literal["OK", "ERROR"]
    output: str | None = None
    urls: tuple[str, ...] = ()
    error: str | None = None


class Job(Frozen):
    """The body of a queue message (`type=outlast.job.v1`).

    `binding` and `generation_id` together identify the generation. A job from FAL's webhook has no generation id; then
    the database finds the generation, of any binding.
    `total_files` and `output_key` are those of the event, also when it was split into several jobs. The job does not
    start before `not_before`. `skipped` are files of the same output that are recorded and not stored; `total_files`
    does not count them. `own_variants`: the profile's variants were requested for this job, so the binding's variants
    do not replace them. `reply` is set for a job from Celery whose producer expects the result. `named` and
    `fal_result` are set for a job from FAL's webhook.
    """

    task_id: UUID
    binding: str = DEFAULT_BINDING
    generation_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    source: Origin
    files: tuple[JobFile, ...]
    skipped: tuple[SkippedFile, ...] = ()
    total_files: int = Field(ge=0)
    output_key: str
    profile: Profile = Profile()
    own_variants: bool = False
    queue: Queue = Queue.FILES
    max_concurrent: int | None = Field(default=None, ge=1)
    event_at: datetime
    not_before: datetime | None = None
    reply: CeleryReplyAddress | None = None
    named: NamedGeneration | None = None
    fal_result: FalResult | None = None

    @property
    def is_result_only(self) -> bool:
        """Whether the job has FAL's result, an error or an output, and no files, not even skipped ones."""
        result, has_files = self.fal_result, bool(self.files or self.skipped)
        return result is not None and not has_files and (result.status == "ERROR" or result.output is not None)

    @property
    def is_adopted(self) -> bool:
        """Whether `outlast adopt` made the job. Its links are old, so some are expected to be dead."""
        return self.source == "adopt"

    def limited_to(self, source_keys: Sequence[str]) -> "Job":
        """Return this job with only the files that have one of these source keys. The task id does not change."""
        files = tuple(file for file in self.files if file.source_key in source_keys)
        return self.model_copy(update={"files": files})


def task_id_for(
    owner: str, files: Sequence[JobFile | SkippedFile], profile: Profile, binding: str = DEFAULT_BINDING
) -> UUID:
    """Derive the id of a task. An event that is delivered again gets the same id.

    `owner` is the generation's id, or `fal:<request id>` when only that is known.
    """
    parts = [owner, profile.key, *(f"{file.position}:{file.source_key}" for file in files)]
    return uuid5(_namespace(binding), "\n".join(parts))


def file_id_for(generation_id: str, key: str, binding: str = DEFAULT_BINDING) -> UUID:
    """Derive the id of a stored file from its generation and source key."""
    return uuid5(_namespace(binding), f"file\n{generation_id}\n{key}")


def identity_of(file: JobFile, generation_id: str, binding: str = DEFAULT_BINDING) -> dict[str, Any]:
    """Return the fields of ProcessedFile that depend on the generation and the source URL, not on the content."""
    return {
        "id": file_id_for(generation_id, file.source_key, binding),
        "position": file.position,
        "original_filename": file.original_filename,
        "source_url": redact_url(file.url),
        "source_key": file.source_key,
    }


def _namespace(binding: str) -> UUID:
    """Return the namespace of a binding's ids: equal generation ids of two bindings must not give equal ids."""
    return NAMESPACE if binding == DEFAULT_BINDING else uuid5(NAMESPACE, f"binding\n{binding}")


def output_key_for(source_keys: Sequence[str]) -> str:
    """Return a key for an output: events with the same files in the same order have the same output."""
    return hashlib.sha256("\n".join(source_keys).encode()).hexdigest()[:32]
