"""One request to a codec process: how it is written, and how its answer is read and checked."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import JsonValue, ValidationError

from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from schemas.codec import CodecAnswer, DecoderError, DecoderErrorCode, LogLine

T = TypeVar("T")

SHOWN_CHARACTERS: Final = 200
"""How much is shown of where an answer is wrong: the text may be the sender's."""
ERRORS: Final[dict[DecoderErrorCode, type[FileProcessingError]]] = {
    DecoderErrorCode.CORRUPTED: FileCorruptedError,
    DecoderErrorCode.TYPE_NOT_SUPPORTED: FileTypeNotSupportedError,
    DecoderErrorCode.LIMIT: DecoderLimitError,
}
"""The class of each code that has one; the others are retryable errors of the base class."""


class InvalidAnswerError(Exception):
    """A codec process answered something that is not described in `schemas/codec.py`."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came back: log lines, and a result or an error."""

    log: Sequence[LogLine]
    outcome: T | FileProcessingError

    def result(self) -> T:
        """Return the result, or raise the error."""
        if isinstance(self.outcome, FileProcessingError):
            raise self.outcome
        return self.outcome


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A function (`module:function`) to be called in a codec process, with plain data.

    `read` checks and converts the result and raises ValueError for what it must not be. `cpu_seconds` is the processor
    time that the call may take; None for no limit.
    """

    operation: str
    arguments: Sequence[JsonValue]
    read: Callable[[Any], T]
    cpu_seconds: float | None = None

    def content(self) -> bytes:
        """Return the request as it is sent; see `handlers/codec/decoder_main.py`."""
        asked = {"operation": self.operation, "arguments": self.arguments, "cpu_seconds": self.cpu_seconds}
        return json.dumps(asked).encode()

    def answer(self, content: bytes) -> Answer[T]:
        """Read an answer.

        Raises:
            InvalidAnswerError: it is not what `schemas/codec.py` describes, or `read` refused its result.
        """
        try:
            answer = CodecAnswer.model_validate_json(content)
            return Answer(answer.log, _raised(answer.error) if answer.error else self.read(answer.result))
        except ValidationError as error:
            raise InvalidAnswerError(_first_problem(error)) from None
        except ValueError as error:
            raise InvalidAnswerError(f"{str(error)[:SHOWN_CHARACTERS]!r}") from None


def _raised(error: DecoderError) -> FileProcessingError:
    kind = ERRORS.get(error.code)
    return kind(error.message) if kind else FileProcessingError(error.message, code=error.code, retryable=True)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))[:SHOWN_CHARACTERS]
    return f"{place!r}: {first['msg'][:SHOWN_CHARACTERS]}" if place else first["msg"][:SHOWN_CHARACTERS]
