"""The answers of codec processes, as JSON. The worker validates an answer before it uses any of it.

A malicious file may have taken control of the codec process. So texts have a maximum length, numbers are finite and in
a range, files are named by a word or a number instead of a path, and errors have one of a few codes. Codec processes
do not import this module, because pydantic takes 9 MB; `handlers/codec/decoder_main.py` writes the answers.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from schemas.formats import MAX_ERROR_CHARACTERS, MAX_LOG_CHARACTERS, MAX_LOG_LINES, MAX_LOGGER_CHARACTERS
from schemas.variants import MAX_VARIANT_SIDE, MAX_VARIANTS

Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A number that fits in a column of type `integer`."""
ThumbHash = Annotated[str, Field(pattern=r"\A[A-Za-z0-9+/]{1,64}={0,2}\z")]
Side = Annotated[int, Field(ge=1, le=MAX_VARIANT_SIDE)]


class _Strict(BaseModel):
    """Converts no values and refuses unknown fields: worker and codec process have the same version."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DecoderErrorCode(StrEnum):
    """Why a file was not prepared. The codes are described in `handlers/errors.py`."""

    CORRUPTED = "corrupted"
    TYPE_NOT_SUPPORTED = "type_not_supported"
    LIMIT = "decoder_limit"
    FAILED = "decoder_failed"
    DISK_FULL = "disk_full"


class LogLine(_Strict):
    """A warning or an error that was logged in the codec process."""

    logger: str = Field(max_length=MAX_LOGGER_CHARACTERS)
    level: int = Field(ge=30, le=50)
    message: str = Field(max_length=MAX_LOG_CHARACTERS)


class DecoderError(_Strict):
    """The error that ended a request."""

    code: DecoderErrorCode
    message: str = Field(max_length=MAX_ERROR_CHARACTERS)


class MadeVariant(_Strict):
    """The fields of `handlers.media.DecodedVariant`, with `file` instead of the path.

    `file` is the number of the variant's file, in the order in which the variants were requested. It is null if the
    picture itself serves as the variant.
    """

    name: str = Field(max_length=100)
    file: int | None = Field(ge=0, lt=MAX_VARIANTS)
    content_type: str = Field(max_length=100)
    width: Side
    height: Side
    frames: Count = 1


class MadePoster(_Strict):
    """The fields of `handlers.media.Poster`. Every variant has a `file`, because no variant is the video itself."""

    thumbhash: ThumbHash | None = None
    variants: list[MadeVariant] = Field([], max_length=MAX_VARIANTS)


class PreparedFile(_Strict):
    """The fields of `handlers.media.Decoded`, with `file` instead of the path.

    `file` says which of the request's two paths it is. The extension follows from the content type; the worker computes
    size and hashes itself.
    """

    file: Literal["source", "target"]
    content_type: str = Field(max_length=100)
    width: Count | None = None
    height: Count | None = None
    duration: float | None = Field(None, ge=0, le=1e13)  # FFmpeg counts microseconds in 64 bits
    frames: Count | None = None
    thumbhash: ThumbHash | None = None
    quality: int | None = Field(None, ge=1, le=100)
    variants: list[MadeVariant] = Field([], max_length=MAX_VARIANTS)


class CodecAnswer(_Strict):
    """The answer to one request: the log lines, and a result or an error."""

    log: list[LogLine] = Field(max_length=MAX_LOG_LINES)
    result: JsonValue = None
    error: DecoderError | None = None

    @model_validator(mode="after")
    def _has_one_outcome(self) -> Self:
        if len(self.model_fields_set & {"result", "error"}) != 1:
            raise ValueError("an answer must have either a result or an error")
        return self
