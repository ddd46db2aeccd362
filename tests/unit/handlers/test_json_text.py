import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.json_text import (
    MAX_JSON_VALUES,
    UNSTORABLE,
    JsonTooLargeError,
    clean_json,
    clean_text,
    parse_json,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
ANY_JSON = st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=5)


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (r'"a\u0000b"', "a�b"),
        (r'"\ud800"', "�"),
        (r'"\uDFFF\ud800x"', "��x"),
        (r'"\ud83d\ude00"', "😀"),
        (r'"\ud83d\ud83d\ude00"', "�😀"),
        (r'"\\u0000 \\\u0000 \\\\ud800"', "\\u0000 \\� \\\\ud800"),
        (r'{"\u0000": ["\ud800"]}', {"�": ["�"]}),
        (r'"\u00e9\u0041"', "éA"),
    ],
)
def test_what_postgresql_cannot_store_is_replaced_in_json(escaped, expected):
    assert parse_json(escaped) == expected


@given(ANY_JSON)
def test_cleaned_json_is_the_same_value_with_clean_texts(value):
    parsed = json.loads(clean_json(json.dumps(value)))
    assert json.dumps(parsed) == json.dumps(_clean(value))
    json.dumps(parsed, ensure_ascii=False).encode()


@given(ANY_TEXT)
def test_a_cleaned_text_can_be_stored(text):
    cleaned = clean_text(text)
    assert UNSTORABLE.search(cleaned) is None
    assert len(cleaned) == len(text)
    assert cleaned == text or UNSTORABLE.search(text)


def test_json_with_too_many_values_is_refused_before_it_is_parsed():
    assert len(parse_json("[" + "1," * (MAX_JSON_VALUES - 2) + "1]")) == MAX_JSON_VALUES - 1
    for text in ("[" * MAX_JSON_VALUES + "[", "1," * MAX_JSON_VALUES + ",", '{"a":' * MAX_JSON_VALUES + "{"):
        with pytest.raises(JsonTooLargeError):
            parse_json(text)


def test_json_that_is_nested_too_deeply_is_a_value_error():
    with pytest.raises(ValueError, match="too deeply"):
        parse_json("[" * 100_000)


def _clean(value):
    if isinstance(value, str):
        # Adjacent halves of a pair are one character in JSON.
        return clean_text(value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return {_clean(key): _clean(item) for key, item in value.items()}
