"""One request to a codec process: its encoding, and the validation of its answer."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import JsonValue, ValidationError

from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from schemas.codec import CodecAnswer, DecoderError, DecoderErrorCode, LogLine

T = TypeVar("T")

MAX_SHOWN_CHARACTERS: Final = 200
"""Maximum length of the excerpt of an invalid answer in an error message: its text may come from an attacker."""
ERROR_CLASSES: Final[dict[DecoderErrorCode, type[FileProcessingError]]] = {
    DecoderErrorCode.CORRUPTED: FileCorruptedError,
    DecoderErrorCode.TYPE_NOT_SUPPORTED: FileTypeNotSupportedError,
    DecoderErrorCode.LIMIT: DecoderLimitError,
}
"""The class of the error for a code. Other codes become a retryable `FileProcessingError`."""


class InvalidAnswerError(Exception):
    """A codec process sent an incomplete or overlong message, or an answer or result that is not as declared."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A validated answer: log lines, and a result or an error."""

    log: Sequence[LogLine]
    outcome: T | FileProcessingError

    def result(self) -> T:
        """Return the result, or raise the error."""
        if isinstance(self.outcome, FileProcessingError):
            raise self.outcome
        return self.outcome


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A call of a function (`module:function`) in a codec process, with plain data as arguments.

    `parse` validates and converts the result, and raises ValueError if it is not valid. `cpu_seconds` is the processor
    time that the call may take; None for no limit. `gets_folder`: the path of the process's work folder is the first
    argument. `files`: the source, which is put into that folder, and the path to which the result is copied from it.
    `extra_files`: the paths to which further results are copied, by their names in that folder.
    """

    operation: str
    arguments: Sequence[JsonValue]
    parse: Callable[[Any], T]
    cpu_seconds: float | None = None
    gets_folder: bool = False
    files: tuple[Path, Path] | None = None
    extra_files: Mapping[str, Path] = field(default_factory=dict)

    def encode(self, folder: Path) -> bytes:
        """Return the request as it is sent to the process with this folder; see `handlers/codec/decoder_main.py`."""
        arguments = [str(folder), *self.arguments] if self.gets_folder else self.arguments
        fields = {"operation": self.operation, "arguments": arguments, "cpu_seconds": self.cpu_seconds}
        return json.dumps(fields).encode()

    def parse_answer(self, content: bytes) -> Answer[T]:
        """Validate an answer.

        Raises:
            InvalidAnswerError: it does not match `schemas/codec.py`, or `parse` refuses the result.
        """
        try:
            answer = CodecAnswer.model_validate_json(content)
            return Answer(answer.log, _to_exception(answer.error) if answer.error else self.parse(answer.result))
        except ValidationError as error:
            raise InvalidAnswerError(_first_problem(error)) from None
        except ValueError as error:
            raise InvalidAnswerError(f"{str(error)[:MAX_SHOWN_CHARACTERS]!r}") from None


def _to_exception(error: DecoderError) -> FileProcessingError:
    error_class = ERROR_CLASSES.get(error.code)
    if error_class is not None:
        return error_class(error.message)
    return FileProcessingError(error.message, code=error.code, retryable=True)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    location = ".".join(map(str, first["loc"]))[:MAX_SHOWN_CHARACTERS]
    message = first["msg"][:MAX_SHOWN_CHARACTERS]
    return f"{location!r}: {message}" if location else message
