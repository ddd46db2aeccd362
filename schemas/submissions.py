"""The request to process files, as submitted through the task API."""

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import Frozen
from schemas.formats import ImageFormat
from schemas.jobs import DEFAULT_BINDING, BindingName, Queue
from schemas.urls import MAX_URL_CHARACTERS
from schemas.variants import SYNTAX, Variants


def _check_length(url: str) -> str:
    if not url.startswith("data:") and len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    return url


SourceUrl = Annotated[
    str, StringConstraints(pattern=r"^(https?://|data:)[^\s\x00-\x1f\x7f]+$"), AfterValidator(_check_length)
]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TaskOptions(Frozen, extra="forbid"):
    """Options of a task. The worker's settings apply to the options that are not given.

    A task with the `priority` bulk waits behind interactive tasks. `queue` names the task's queue directly. Only one of
    `priority` and `queue` may be given.
    """

    max_concurrent: int | None = Field(
        default=None, ge=1, le=64, description="Number of files processed at the same time."
    )
    quality: int | None = Field(default=None, ge=1, le=100, description="Quality of lossy images.")
    format: ImageFormat | None = Field(default=None, description="Format of stored images.")
    variants: Variants | None = Field(
        default=None,
        description=f"Smaller versions of each picture, separated by commas: {SYNTAX}. Empty for none.",
    )
    priority: Literal["interactive", "bulk"] | None = Field(
        default=None, description="`interactive` if a user waits for the task, else `bulk`."
    )
    queue: Literal[Queue.FILES, Queue.BULK, Queue.OPTIMIZATION] | None = Field(
        default=None, description="The queue of the task, instead of a priority."
    )

    @model_validator(mode="after")
    def _check_priority_or_queue(self) -> Self:
        if self.priority is not None and self.queue is not None:
            raise ValueError("give priority or queue, not both")
        return self

    @property
    def work_queue(self) -> Queue:
        """The queue of the task."""
        if self.queue is not None:
            return self.queue
        return Queue.BULK if self.priority == "bulk" else Queue.FILES


class Submission(Frozen, extra="forbid"):
    """A request to process files of a generation. A URL that is given twice counts once."""

    urls: list[SourceUrl] = Field(min_length=1, description="URLs of the files, at most MAX_BATCH_SIZE.")
    user_id: Identifier | None = Field(description="The owner of the files; null for none.")
    generation_id: Identifier = Field(description="The generation of the files. It need not have a row.")
    binding: BindingName = Field(default=DEFAULT_BINDING, description="The binding of the generation's table.")
    task_options: TaskOptions = Field(default_factory=TaskOptions)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the submission as hex digits.

        Equal submissions have the same fingerprint, also if an earlier version, without newer fields, computed it.
        """
        exclude: dict[str, Any] = {"binding": True} if self.binding == DEFAULT_BINDING else {}
        if self.task_options.variants is None:
            exclude["task_options"] = {"variants"}
        return hashlib.sha256(self.model_dump_json(exclude=exclude or None).encode()).hexdigest()
