"""Reads the body of a Celery message: decompresses it and parses kombu's JSON.

The formats are those of kombu.compression (header `compression`) and kombu.utils.json (`__type__` and `__value__`).
kombu itself is not imported: it would be a dependency of every worker, and it does not limit the decompressed size.
"""

import bz2
import importlib
import json
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol, cast
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage

from schemas.jobs import MAX_JOB_BYTES
from worker.broker.envelope import UndecodableError

LZMA_MEMORY_BYTES: Final = 128 * 1024 * 1024
"""The highest preset of lzma needs 65 MiB to decompress."""
ZSTD_MODULES: Final = ("compression.zstd", "backports.zstd")
"""The standard library's since Python 3.14, and the package that kombu uses before."""


class Decompressor(Protocol):
    """A decompressor of the standard library; bz2, lzma and zstd have the same interface."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes."""


def _lzma() -> Decompressor:
    return lzma.LZMADecompressor(memlimit=LZMA_MEMORY_BYTES)


def _zstd() -> Decompressor:
    for name in ZSTD_MODULES:
        try:
            return cast("Decompressor", importlib.import_module(name).ZstdDecompressor())
        except ModuleNotFoundError:
            continue
    problem = "zstd needs Python 3.14 or the package backports.zstd in the worker, or another compression in the sender"
    raise UndecodableError(problem, "undecodable")


TEXT_TYPES: Final = frozenset({"bytes", "date", "datetime", "decimal", "time"})
"""The types that kombu writes as text. Missing is `base64`, for bytes that are not UTF-8."""

DECOMPRESSORS: Final[dict[str, Callable[[], Decompressor]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), _lzma),
    **dict.fromkeys(("application/zstd", "zstd", "zstandard"), _zstd),
}
"""Decompressor by the value of the header `compression`. kombu's "gzip" has zlib's format (RFC 1950)."""


def read_body(message: AbstractIncomingMessage) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Return the arguments, the keyword arguments, and what Celery calls `embed`: callbacks, chain, chord.

    Raises:
        UndecodableError: the compression is unknown, damaged or too large, or the body is not protocol 2 in JSON.
    """
    body = _decompressed(message.body, message.headers.get("compression"))
    try:
        args, kwargs, embed = json.loads(body, object_hook=_from_kombu)
        valid = isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict | None)
    except (ValueError, TypeError, RecursionError):
        valid = False
    if not valid:
        kind = str(message.content_type)[:100]
        raise UndecodableError(f"the body ({kind}) is not [args, kwargs, embed] in JSON", "undecodable")
    return args, kwargs, embed or {}


def _decompressed(body: bytes, compression: object) -> bytes:
    if compression is None:
        return body
    decompressor_for = DECOMPRESSORS.get(str(compression))
    if decompressor_for is None:
        raise UndecodableError(f"the compression {str(compression)[:100]!r} is not supported", "undecodable")
    decompressor = decompressor_for()
    try:
        content = decompressor.decompress(body, MAX_JOB_BYTES + 1)
    except Exception as error:  # noqa: BLE001 - zlib, lzma and zstd have error classes of their own, bz2 raises OSError
        raise UndecodableError(f"the body does not decompress: {str(error)[:200]}", "undecodable") from None
    if len(content) > MAX_JOB_BYTES:
        raise UndecodableError(f"the body has more than {MAX_JOB_BYTES} bytes when decompressed", "undecodable")
    if not decompressor.eof:
        raise UndecodableError("the compressed body is incomplete", "undecodable")
    return content


def _from_kombu(value: dict[str, Any]) -> Any:  # noqa: ANN401 - any value of JSON
    """Return a UUID, time, decimal number or UTF-8 bytes as text; other objects unchanged. Raises ValueError."""
    if value.keys() != {"__type__", "__value__"}:
        return value
    content = value["__value__"]
    if value["__type__"] == "uuid" and isinstance(content, dict):
        return str(UUID(str(content.get("hex"))))
    if value["__type__"] in TEXT_TYPES and isinstance(content, str):
        return content
    raise ValueError("an argument has a type that is no text")
