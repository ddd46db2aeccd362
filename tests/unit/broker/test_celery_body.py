"""Bodies of Celery messages, as kombu writes them: types, compression, and what is refused."""

import bz2
import json
import lzma
import zlib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest
from kombu.compression import compress, encoders
from kombu.utils import json as kombu_json

from schemas.jobs import MAX_JOB_BYTES
from worker.broker.envelope import UndecodableError
from worker.celery_compat import body
from worker.celery_compat.body import read_body

USER = UUID("5e0f0d46-4a7a-4b8e-9a37-0c1f4c8ab001")
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(content, compression=None, content_type="application/json"):
    headers = {} if compression is None else {"compression": compression}
    return SimpleNamespace(body=content, headers=headers, content_type=content_type)


def kombu_message(*args, compression=None, **kwargs):
    """Return a message with the body and the compression that kombu makes."""
    content = kombu_json.dumps([args, kwargs, EMBED])
    if compression is None:
        return message(content.encode())
    return message(*compress(content, compression))


def test_types_that_kombu_marks_become_text():
    values = {
        "uuid": USER,
        "datetime": datetime(2026, 11, 29, 8, 30, tzinfo=UTC),
        "date": date(2026, 11, 29),
        "time": time(8, 30),
        "decimal": Decimal("0.85"),
        "bytes": b"https://fal.media/a.png",
        "nested": {"list": [USER]},
    }
    assert read_body(kombu_message(1, **values)) == (
        [1],
        {
            "uuid": str(USER),
            "datetime": "2026-11-29T08:30:00+00:00",
            "date": "2026-11-29",
            "time": "08:30:00",
            "decimal": "0.85",
            "bytes": "https://fal.media/a.png",
            "nested": {"list": [str(USER)]},
        },
        EMBED,
    )


@pytest.mark.parametrize("compression", encoders())
def test_every_compression_that_kombu_has_here_is_decoded(compression):
    assert read_body(kombu_message(user_id=USER, compression=compression))[1] == {"user_id": str(USER)}


@pytest.mark.parametrize("alias", ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz"])
def test_the_aliases_of_kombu_are_known(alias):
    content, _ = compress(kombu_json.dumps([[], {}, EMBED]), alias)
    assert read_body(message(content, alias)) == ([], {}, EMBED)


def deeply_nested(depth):
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (message(zlib.compress(b"[[], {}, null]" * 9)[:-5], "application/x-gzip"), "incomplete"),
        (message(b"no zlib", "application/x-gzip"), "does not decompress"),
        (message(b"no bzip2", "application/x-bz2"), "does not decompress"),
        (message(b"no xz", "application/x-lzma"), "does not decompress"),
        (message(b"x", "application/x-brotli"), "'application/x-brotli' is not supported"),
        (message(b"x", ["a", "list"]), "is not supported"),
        (message(deeply_nested(1_000_000)), "is not .args, kwargs, embed. in JSON"),
        (message(b"[[], {}, null, 4]"), "is not"),
        (message(b'["text", {}, null]'), "is not"),
        (message(b'{"0": 1, "1": 2, "2": 3}'), "is not"),
        (message(b"\x80\x04]", content_type="application/x-python-serialize"), "application/x-python-serialize"),
        (message(json.dumps([[{"__type__": "uuid", "__value__": {"hex": "x"}}], {}, None]).encode()), "is not"),
        (message(json.dumps([[{"__type__": "uuid", "__value__": {"int": 5}}], {}, None]).encode()), "is not"),
        (message(json.dumps([[{"__type__": ["x"], "__value__": "y"}], {}, None]).encode()), "is not"),
        (kombu_message(b"\xff\xfe"), "is not"),
    ],
)
def test_a_hostile_or_damaged_body_is_refused_with_the_reason(hostile, reason):
    with pytest.raises(UndecodableError, match=reason) as refused:
        read_body(hostile)
    assert refused.value.code == "undecodable"


@pytest.mark.parametrize(("codec", "name"), [(zlib, "gzip"), (bz2, "bz2"), (lzma, "lzma")], ids=["gzip", "bz2", "lzma"])
def test_a_decompression_bomb_is_refused(codec, name):
    bomb = codec.compress(bytes(4 * MAX_JOB_BYTES))
    with pytest.raises(UndecodableError, match=f"more than {MAX_JOB_BYTES} bytes"):
        read_body(message(bomb, f"application/x-{name}"))


def test_zstd_without_its_module_names_the_remedy(monkeypatch):
    monkeypatch.setattr(body, "ZSTD_MODULES", ("no_such_module",))
    with pytest.raises(UndecodableError, match=r"Python 3\.14 or the package backports\.zstd"):
        read_body(message(b"x", "application/zstd"))
