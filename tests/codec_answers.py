"""Answers of codec processes for tests: a valid one, and many that violate the schema in one place."""

import json
from typing import Any

RESULT: dict[str, Any] = {
    "file": "target",
    "content_type": "image/jpeg",
    "width": 4,
    "height": 3,
    "duration": 1.5,
    "frames": 2,
    "thumbhash": "3OcRJYB4d3h/iIeHeEh3eIhw+j3A",
}
LINE: dict[str, Any] = {"logger": "PIL", "level": 30, "message": "odd"}
ERROR: dict[str, Any] = {"code": "corrupted", "message": "cut short"}


def content(**fields: Any) -> bytes:
    return json.dumps({"log": []} | fields).encode()


WRONG_FIELDS: list[tuple[str, Any]] = [
    *[("file", value) for value in ("/etc/passwd", "../target", "", "TARGET", None, 1, ["source"])],
    *[("content_type", value) for value in ("text/html", "image/svg+xml", "image/jpeg\n", "x" * 200, None, 7, {})],
    *[("file_size", value) for value in (10, -1)],  # the worker computes these three
    *[("sha256", value) for value in ("0a" * 32, "../" + "0" * 61)],
    *[("md5", value) for value in ("0a" * 16, 0)],
    *[
        (name, value)
        for name in ("width", "height", "frames")
        for value in (-1, 1 << 31, 2.5, "4", True, 10**4000, [4])
    ],
    *[("duration", value) for value in (-0.5, float("nan"), float("inf"), -float("inf"), 1e300, "1.5", True, [])],
    *[("thumbhash", value) for value in ("", "x" * 65, "<script>", "a b", "aa\n", 7, ["aa"])],
    *[(name, "unknown") for name in ("path", "extension", "__class__", "")],
]
"""A field and a value that make the result invalid."""
MISSING_FIELDS = ["file", "content_type"]
WRONG_CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "no JSON": b"\x00\xff" * 30,
    "no UTF-8": b'{"log": [], "error": {"code": "corrupted", "message": "\xff"}}',
    "a lone surrogate": b'{"log": [], "error": {"code": "corrupted", "message": "\\ud800"}}',
    "two answers": content(result=RESULT) * 2,
    "half an answer": content(result=RESULT)[:-30],
    "neither result nor error": content(),
    "result and error": content(result=RESULT, error=ERROR),
    "null for an error": content(error=None),
    "no log": json.dumps({"result": RESULT}).encode(),
    "an unknown field": content(result=RESULT, more=1),
    "a result that is a list": content(result=[RESULT]),
    "a result that is null": content(result=None),
    "nested too deep": b"[" * 100_000,
    "deep inside the result": content(result=RESULT)[:-2] + b', "more": ' + b"[" * 500 + b"]" * 500 + b"}}",
    "a log that is no list": content(result=RESULT, log={"0": LINE}),
    "too many log lines": content(result=RESULT, log=[LINE] * 21),
    "a log line too long": content(result=RESULT, log=[LINE | {"message": "x" * 2001}]),
    "a logger too long": content(result=RESULT, log=[LINE | {"logger": "x" * 101}]),
    "a level too low": content(result=RESULT, log=[LINE | {"level": 10}]),
    "a level too high": content(result=RESULT, log=[LINE | {"level": 60}]),
    "a level in words": content(result=RESULT, log=[LINE | {"level": "WARNING"}]),
    "a message that is a number": content(result=RESULT, log=[LINE | {"message": 7}]),
    "an error of no code": content(error={"message": "why"}),
    "an error that no decoder has": content(error=ERROR | {"code": "source_forbidden"}),
    "an exception's name": content(error=ERROR | {"code": "SystemExit"}),
    "an error that says it is final": content(error=ERROR | {"retryable": False}),
    "an error too long": content(error=ERROR | {"message": "x" * 1001}),
    "an error that is text": content(error="SystemExit"),
}
"""Complete answers that are invalid."""
