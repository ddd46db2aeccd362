"""The results of the pipeline: stored files, failed files, and the result of a batch."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen
from schemas.formats import SKIPPED


class StoredVariant(Frozen):
    """A variant of a stored file, in the same bucket. If the picture itself serves as variant, `path` is its path."""

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
    been checked that Storage has the complete file. `quality` is the one that IMAGE_QUALITY=auto found. `variants` are
    those of a picture, of a video's poster, or the waveform of audio; None if there are none.
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
        """Return a field as from a dictionary, for `failed["url"]` in the API documentation."""
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)


class ProcessingResult(Frozen):
    """The result of a batch. `success`: no file failed; `failed_files` also has the skipped ones, with their reason.

    `processing_time` is in seconds.
    """

    success: bool
    total_files: int
    processed_files: list[ProcessedFile] = Field(default_factory=list)
    failed_files: list[FailedFile] = Field(default_factory=list)
    processing_time: float
    finished_at: datetime | None = None
