import re

import pytest

from handlers import errors
from handlers.errors import FileProcessingError

ERROR_CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("error_class", ERROR_CLASSES)
def test_the_docstring_lists_every_error_with_code_and_retryability(error_class):
    line = next(line for line in (errors.__doc__ or "").splitlines() if re.search(rf"\b{error_class.__name__}\b", line))
    error = error_class("message")
    assert error.code in line
    assert ("retryable" in line) == error.retryable
    assert str(error) == "message"


def test_the_base_class_takes_code_and_retry_as_arguments():
    error = FileProcessingError("m", code="c", retryable=True, retry_after=3)
    assert (error.code, error.retryable, error.retry_after) == ("c", True, 3)
    plain = FileProcessingError("m")
    assert (plain.code, plain.retryable, plain.retry_after) == ("processing_failed", False, None)


def test_error_codes_are_unique():
    codes = [error_class("m").code for error_class in ERROR_CLASSES]
    assert len(codes) == len(set(codes)) == 14
