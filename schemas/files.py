"""What the pipeline hands back: stored files, failed files, and the result of a batch."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen


class ProcessedFile(Frozen):
    """A file that is stored and stays. Sizes in bytes, width and height in pixels, duration in seconds.

    `frames` counts those of an animation or a video; a still picture has one. `md5` is there only until somebody has
    looked whether Storage has the file whole.
    """

    id: UUID
    position: int = 0
    original_filename: str
    original_size: int
    file_size: int
    content_type: str
    bucket: str
    path: str
    sha256: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frames: int | None = None
    thumbhash: str | None = None
    source_url: str
    source_key: str = ""
    source_sha256: str = ""
    profile: str = ""
    deduplicated: bool = False
    md5: str | None = None


class FailedFile(Frozen):
    """A file that could not be stored, and why. `stage` is the pipeline step that gave up."""

    url: str
    error: str
    code: str
    retryable: bool
    stage: str = ""
    position: int = 0
    source_key: str = ""
    retry_after: float | None = None

    def __getitem__(self, name: str) -> object:
        """Read a field as from a dictionary: `failed["url"]`, the form the API documentation uses."""
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)


class ProcessingResult(Frozen):
    """The outcome of a batch. `success` means that no file failed; `processing_time` is in seconds."""

    success: bool
    total_files: int
    processed_files: list[ProcessedFile] = Field(default_factory=list)
    failed_files: list[FailedFile] = Field(default_factory=list)
    processing_time: float
    finished_at: datetime | None = None
