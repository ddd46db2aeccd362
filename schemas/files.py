"""The results of the pipeline: stored files, failed files, and the result of a batch."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen
from schemas.formats import SKIPPED


class StoredVariant(Frozen):
    """A variant of a stored file, in the same bucket. `md5` is as in ProcessedFile.

    If the picture itself serves as the variant, `path` is the picture's path.
    """

    name: str
    path: str
    content_type: str
    width: int
    height: int
    frames: int = 1
    file_size: int
    sha256: str
    md5: str | None = Field(default=None, exclude_if=lambda md5: md5 is None)


class ProcessedFile(Frozen):
    """A stored file. Sizes are in bytes, width and height in pixels, the duration in seconds.

    `frames` is the number of frames of an animation or a video, and 1 for a still image. `md5` is set only until it has
    been checked that Storage has the complete file. `quality` is set if IMAGE_QUALITY=auto chose it. `variants` are
    those of a picture or of a video's poster, or the waveform of audio; None if there are none.
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
    quality: int | None = None
    variants: list[StoredVariant] | None = None


class FailedFile(Frozen):
    """A file that was not stored, and why. `stage` is the step of the pipeline that failed or skipped it."""

    url: str
    error: str
    code: str
    retryable: bool
    stage: str = ""
    position: int = 0
    source_key: str = ""
    retry_after: float | None = None

    @property
    def is_skipped(self) -> bool:
        """Whether the file was not stored on purpose."""
        return self.code == SKIPPED

    def __getitem__(self, name: str) -> object:
        """Return a field by its name, because the API documentation uses `failed["url"]`. Raises KeyError."""
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)


class ProcessingResult(Frozen):
    """The result of a batch. `success`: no file failed. `failed_files` also lists the skipped files, with the reason.

    `processing_time` is in seconds.
    """

    success: bool
    total_files: int
    processed_files: list[ProcessedFile] = Field(default_factory=list)
    failed_files: list[FailedFile] = Field(default_factory=list)
    processing_time: float
    finished_at: datetime | None = None
