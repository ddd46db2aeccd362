"""What somebody asks for outright: files to bring home, and how."""

import hashlib
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import Frozen
from schemas.formats import ImageFormat
from schemas.jobs import Queue

MAX_URL_CHARACTERS: Final = 8192
"""Longest http(s) URL in characters; a `data:` URI may be as long as a job may be."""


def _short(url: str) -> str:
    if not url.startswith("data:") and len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    return url


SourceUrl = Annotated[str, StringConstraints(pattern=r"^(https?://|data:)[^\s\x00-\x1f\x7f]+$"), AfterValidator(_short)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TaskOptions(Frozen, extra="forbid"):
    """How a task is to be done; what is left out follows the worker's settings.

    `priority` bulk goes behind whatever users wait for; `queue` names the queue itself, and only one of the two may be
    given. `quality` and `format` are those of stored images.
    """

    max_concurrent: int | None = Field(default=None, ge=1, le=64, description="Files of the task in work at once.")
    quality: int | None = Field(default=None, ge=1, le=100, description="Quality of lossy images.")
    format: ImageFormat | None = Field(default=None, description="What images become.")
    priority: Literal["interactive", "bulk"] | None = Field(default=None, description="Whether somebody waits for it.")
    queue: Literal[Queue.FILES, Queue.BULK, Queue.OPTIMIZATION] | None = Field(
        default=None, description="The queue it goes to, instead of a priority."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.priority is not None and self.queue is not None:
            raise ValueError("give priority or queue, not both")
        return self

    @property
    def work_queue(self) -> Queue:
        """The queue the task goes to."""
        if self.queue is not None:
            return self.queue
        return Queue.BULK if self.priority == "bulk" else Queue.FILES


class Submission(Frozen, extra="forbid"):
    """Files of a generation to bring home. Each URL counts once."""

    urls: list[SourceUrl] = Field(min_length=1, description="Where the files are: at most MAX_BATCH_SIZE.")
    user_id: Identifier | None = Field(description="Whose they are; null for nobody's.")
    generation_id: Identifier = Field(description="The generation they belong to, with a row or without.")
    task_options: TaskOptions = Field(default_factory=TaskOptions)

    @property
    def fingerprint(self) -> str:
        """What tells this submission from any other: SHA-256 as hex."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
