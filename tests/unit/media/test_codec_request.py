"""What the worker accepts as an answer: what `schemas/codec.py` describes, and nothing else."""

import hashlib
import json
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.codec.operations import prepare_request
from handlers.codec.request import Answer, InvalidAnswerError
from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from handlers.media import BY_CONTENT_TYPE, Limits, Prepared
from schemas.codec import DecoderErrorCode
from schemas.jobs import Profile
from tests import codec_answers
from tests.codec_answers import ERROR, LINE, MISSING_FIELDS, RESULT, WRONG_CONTENTS, WRONG_FIELDS, content

without_deadline = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine must not fail the test
SOURCE, TARGET = Path(__file__), Path(codec_answers.__file__)  # any two files: the worker reads and hashes them
REQUEST = prepare_request(SOURCE, TARGET, "image/png", Profile(), Limits(1, 1, 1, 1, 1))


def read(answer: bytes) -> Answer[Prepared]:
    return REQUEST.parse_answer(answer)


@pytest.mark.parametrize(("file", "path"), [("source", SOURCE), ("target", TARGET)])
def test_a_valid_result_is_read_and_its_path_is_the_requests(file: str, path: Path) -> None:
    made = read(content(result=RESULT | {"file": file}, log=[LINE])).result()
    expected = {name: value for name, value in RESULT.items() if name != "file"}
    bytes_ = path.read_bytes()
    md5, sha256 = hashlib.md5(bytes_, usedforsecurity=False), hashlib.sha256(bytes_)
    assert made == Prepared(
        path=path,
        extension="jpg",
        file_size=len(bytes_),
        sha256=sha256.hexdigest(),
        md5=md5.hexdigest(),
        **expected,
    )


def test_a_result_without_its_file_is_refused(tmp_path: Path) -> None:
    request = prepare_request(SOURCE, tmp_path / "none", "image/png", Profile(), Limits(1, 1, 1, 1, 1))
    with pytest.raises(InvalidAnswerError, match="target cannot be read"):
        request.parse_answer(content(result=RESULT))


def test_fields_without_a_value_may_be_null_or_missing() -> None:
    bare = {name: value for name, value in RESULT.items() if name in MISSING_FIELDS}
    made = read(content(result=bare)).result()
    assert made == read(content(result=bare | {"width": None, "duration": None, "thumbhash": None})).result()
    assert (made.width, made.height, made.duration, made.frames, made.thumbhash) == (None,) * 5


def test_the_largest_valid_log_is_read() -> None:
    lines = [{"logger": "x" * 100, "level": 50, "message": "\U0001f600" * 2000}] * 20
    assert [len(line.message) for line in read(content(result=RESULT, log=lines)).log] == [2000] * 20


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("corrupted", FileCorruptedError, False),
        ("type_not_supported", FileTypeNotSupportedError, False),
        ("decoder_limit", DecoderLimitError, False),
        ("decoder_failed", FileProcessingError, True),
        ("disk_full", FileProcessingError, True),
    ],
)
def test_an_error_is_raised_as_the_class_of_its_code(code: str, kind: type[Exception], *, retryable: bool) -> None:
    with pytest.raises(FileProcessingError, match="cut short") as caught:
        read(content(error=ERROR | {"code": code})).result()
    assert (type(caught.value), caught.value.code, caught.value.retryable) == (kind, code, retryable)


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS)
def test_a_wrong_field_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidAnswerError):
        read(content(result=RESULT | {field: value}))


@pytest.mark.parametrize("field", MISSING_FIELDS)
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    with pytest.raises(InvalidAnswerError, match=field):
        read(content(result={name: value for name, value in RESULT.items() if name != field}))


@pytest.mark.parametrize("case", WRONG_CONTENTS)
def test_a_wrong_answer_is_refused(case: str) -> None:
    with pytest.raises(InvalidAnswerError):
        read(WRONG_CONTENTS[case])


def test_error_about_a_long_unprintable_answer_is_short_and_printable() -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        read(content(result=RESULT | {"\x1b[2J\n" * 50_000: 1}))
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@without_deadline
@given(st.binary(max_size=400))
def test_bytes_are_refused(sent: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        read(sent)


@without_deadline
@given(st.data())
def test_one_damaged_byte_gives_an_answer_in_schema_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(content(result=RESULT, log=[LINE]))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _is_in_schema_or_refused(lambda: read(bytes(whole)))


@without_deadline
@given(st.sampled_from([*RESULT, "path", "extension"]), PLAIN)
def test_any_value_in_a_field_is_in_schema_or_refused(field: str, value: Any) -> None:
    _is_in_schema_or_refused(lambda: read(content(result=RESULT | {field: value})))


@without_deadline
@given(st.dictionaries(st.sampled_from(["log", "result", "error", "more"]), PLAIN))
def test_any_fields_of_an_answer_are_in_schema_or_refused(fields: dict[str, Any]) -> None:
    _is_in_schema_or_refused(lambda: read(json.dumps(fields).encode()))


def _is_in_schema_or_refused(answer: Callable[[], Answer[Prepared]]) -> None:
    """Assert that the answer is valid or raises InvalidAnswerError; any other exception fails the test."""
    try:
        outcome = answer().outcome
    except InvalidAnswerError:
        return
    if isinstance(outcome, FileProcessingError):
        assert outcome.code in set(DecoderErrorCode)
    else:
        _assert_in_schema(outcome)


def _assert_in_schema(made: Prepared) -> None:
    assert made.path in {SOURCE, TARGET}
    assert made.extension == BY_CONTENT_TYPE[made.content_type].extension
    assert type(made.file_size) is int
    assert made.file_size >= 0
    for digest, length in ((made.sha256, 64), (made.md5, 32)):
        assert len(digest) == length
        assert set(digest) <= set(string.hexdigits.lower())
    for number in (made.width, made.height, made.frames):
        assert number is None or (type(number) is int and 0 <= number < 1 << 31)
    assert made.duration is None or (math.isfinite(made.duration) and made.duration >= 0)
