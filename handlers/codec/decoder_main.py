"""The program of a codec process: set its limits once, then prepare one file after the other.

A request is JSON: `operation` (a function, as `module:function`), `arguments` (plain data), and `cpu_seconds`, the
processor time it may take, null for no limit. The worker writes it and is trusted. The answer is described in
`schemas/codec.py`; every exception becomes one of the errors there, since nothing else crosses the process boundary.
"""

import importlib
import json
import logging
import signal
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from handlers.codec import log_capture, rlimits
from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from handlers.media import BY_CONTENT_TYPE, Kind, Limits, Prepared, Recipe
from schemas.codec_limits import MAX_ERROR_CHARACTERS, MAX_LOG_CHARACTERS
from schemas.formats import ImageFormat

log = logging.getLogger(__name__)

DECODERS: Final = {
    Kind.IMAGE: "handlers.media.image",
    Kind.VIDEO: "handlers.media.av.video",
    Kind.AUDIO: "handlers.media.av.audio",
    Kind.MODEL: "handlers.media.model",
    Kind.ARCHIVE: "handlers.media.archive",
}
"""The module that prepares each kind; imported when the first file of its kind comes."""
SENT: Final = tuple(field.name for field in fields(Prepared) if field.name not in {"path", "extension"})
"""The fields of a prepared file that the answer carries as they are."""


def answer(request: bytes) -> bytes:
    """Perform one request; return its result, or its error, and what was logged meanwhile."""
    asked = json.loads(request)
    if asked["cpu_seconds"] is not None:
        rlimits.allow(asked["cpu_seconds"])
    with log_capture.captured() as lines:
        try:
            result = _operation(asked["operation"])(*asked["arguments"])
            return json.dumps({"log": lines, "result": result}).encode()
        except Exception as error:  # noqa: BLE001 - the worker must learn of every failure
            return json.dumps({"error": _error_fields(error), "log": lines}).encode()


def _operation(name: str) -> Any:  # noqa: ANN401 - any function of plain data
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _error_fields(error: Exception) -> dict[str, str]:
    if not isinstance(error, FileProcessingError):
        log.error("%s", "".join(traceback.format_exception(error))[-MAX_LOG_CHARACTERS:])
        error = _failed(error)
    return {"code": error.code, "message": log_capture.plain_text(str(error), MAX_ERROR_CHARACTERS)}


def start(limits: dict[str, Any]) -> None:
    """Prepare this process for its requests: limits (the fields of `Limits`), and libvips' safety settings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends us in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # at once: a handler in Python would wait for the decoder
    import pyvips  # noqa: PLC0415 - for a codec process alone

    pyvips.cache_set_max(0)
    pyvips.block_untrusted_set(True)  # noqa: FBT003 - libvips' own signature
    rlimits.confine(Limits(**limits))


def prepare(
    source: str, target: str, content_type: str, recipe: dict[str, Any], limits: dict[str, Any]
) -> dict[str, Any]:
    """Validate the file whole, compress what is an image; see `Codec.prepare`.

    `recipe` and `limits` are the fields of `Recipe` and `Limits`; returns the fields of `schemas.codec.PreparedFile`.
    """
    wanted = Recipe(**recipe | {"format": ImageFormat(recipe["format"])})
    prepared = _prepared(Path(source), Path(target), content_type, wanted, Limits(**limits))
    file = "source" if prepared.path == Path(source) else "target"
    if file == "target" and prepared.path != Path(target):
        prepared.path.replace(target)  # a copy without its tail, which lies beside the two
    return {"file": file} | {name: getattr(prepared, name) for name in SENT}


def _prepared(source: Path, target: Path, content_type: str, recipe: Recipe, limits: Limits) -> Prepared:
    media = BY_CONTENT_TYPE.get(content_type)
    if media is None:
        raise FileTypeNotSupportedError(f"{content_type} is not stored")
    rlimits.write_beside(target)
    try:
        prepared: Prepared = importlib.import_module(DECODERS[media.kind]).prepare(
            source, target, content_type, recipe, limits
        )
    except FileProcessingError:
        raise
    except MemoryError:
        raise DecoderLimitError(f"decoding takes more than {limits.max_memory >> 20} MiB of memory") from None
    except Exception as error:  # noqa: BLE001 - any library may raise anything
        raise translated(error, limits) from None
    return prepared


def translated(error: Exception, limits: Limits) -> FileProcessingError:
    """Turn what a decoder raised into our error. Decoders are named by module, so that none is imported for it."""
    text = " ".join(str(error).split())[:300]
    said = text.lower()
    if "file too large" in said:
        return DecoderLimitError(f"decoding writes more than {limits.max_written >> 20} MiB to a file: {text}")
    if type(error).__module__.partition(".")[0] not in {"pyvips", "av", "zipfile", "PIL"}:
        return _failed(error)
    if "no space left" in said:
        return FileProcessingError(f"the disk is full: {text}", code="disk_full", retryable=True)
    if "memory" in said:
        return DecoderLimitError(f"decoding takes more than {limits.max_memory >> 20} MiB of memory: {text}")
    if "decompression bomb" in said:  # Pillow's own limit
        return DecoderLimitError(f"the image has too many pixels: {text}")
    return FileCorruptedError(f"the content does not decode whole: {text}")


def _failed(error: Exception) -> FileProcessingError:
    text = " ".join(str(error).split())[:300]
    return FileProcessingError(f"{type(error).__name__}: {text}", code="decoder_failed", retryable=True)
