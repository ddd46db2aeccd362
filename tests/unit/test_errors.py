import re

import pytest

from handlers import errors
from handlers.errors import FileProcessingError

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("kind", TREE)
def test_the_docstring_draws_every_error_with_its_code(kind):
    line = next(line for line in (errors.__doc__ or "").splitlines() if re.search(rf"\b{kind.__name__}\b", line))
    made = kind("message")
    assert made.code in line
    assert ("retryable" in line) == made.retryable
    assert str(made) == "message"


def test_the_base_takes_everything_as_arguments():
    made = FileProcessingError("m", code="c", retryable=True, retry_after=3)
    assert (made.code, made.retryable, made.retry_after) == ("c", True, 3)
    plain = FileProcessingError("m")
    assert (plain.code, plain.retryable, plain.retry_after) == ("processing_failed", False, None)


def test_codes_are_unique():
    codes = [kind("m").code for kind in TREE]
    assert len(codes) == len(set(codes)) == 12
