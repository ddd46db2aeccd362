"""The program of a codec process: it restricts itself once, then prepares files one by one.

A request is JSON: `operation` (a function, as `module:function`), `arguments` (plain data), and `cpu_seconds`, the
processor time it may take (null: no limit). It comes from the worker and is trusted. `schemas/codec.py` describes the
answer. Every exception becomes one of the errors described there.
"""

import contextlib
import importlib
import json
import logging
import os
import re
import signal
import traceback
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from handlers.codec import log_capture
from handlers.codec.sandbox import landlock, rlimits, seccomp
from handlers.codec.work_folder import WorkFolder
from handlers.errors import (
    DecoderLimitError,
    FileCorruptedError,
    FileProcessingError,
    FileTypeNotSupportedError,
    is_disk_full,
)
from handlers.media import (
    BY_CONTENT_TYPE,
    VARIANT,
    Decoded,
    DecodedVariant,
    EncodeOptions,
    Kind,
    Limits,
    VariantOptions,
)
from schemas.formats import MAX_ERROR_CHARACTERS, MAX_LOG_CHARACTERS, ImageFormat

log = logging.getLogger(__name__)

KIND_MODULES: Final = {
    Kind.IMAGE: "handlers.media.image",
    Kind.VIDEO: "handlers.media.av.video",
    Kind.AUDIO: "handlers.media.av.audio",
    Kind.MODEL: "handlers.media.unchanged",
    Kind.ARCHIVE: "handlers.media.archive",
    Kind.TEXT: "handlers.media.unchanged",
    Kind.DATA: "handlers.media.unchanged",
}
"""The module whose `prepare` validates files of each kind. It is imported for the first file of that kind."""
DECODER_LIBRARIES: Final = frozenset({"pyvips", "av", "zipfile", "PIL"})
"""Libraries whose errors usually mean that the file is damaged. They are named here and not imported."""
OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|(cannot|could not|unable to|failed to|can't) allocate|memory (allocation|error|exhausted|limit)"
    r"|(insufficient|not enough|no) memory"
)
"""What libvips, libheif, FFmpeg and the decoders in them report when an allocation fails."""
ANSWER_FIELDS: Final = tuple(field.name for field in fields(Decoded) if field.name not in {"path", "variants"})
"""The fields of Decoded that the answer contains unchanged."""
VARIANT_FIELDS: Final = tuple(field.name for field in fields(DecodedVariant) if field.name != "path")


def answer(request: bytes) -> bytes:
    """Perform one request; return the answer as JSON: its result or error, and the lines that were logged."""
    fields_ = json.loads(request)
    if fields_["cpu_seconds"] is not None:
        rlimits.allow_cpu_time(fields_["cpu_seconds"])
    with log_capture.captured_logs() as lines:
        try:
            result = _import_function(fields_["operation"])(*fields_["arguments"])
            return json.dumps({"log": lines, "result": result}).encode()
        except Exception as error:  # noqa: BLE001 - the worker must get every error
            return json.dumps({"error": _error_fields(error), "log": lines}).encode()


def _import_function(name: str) -> Any:  # noqa: ANN401 - any function of plain data
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _error_fields(error: Exception) -> dict[str, str]:
    if not isinstance(error, FileProcessingError):
        log.error("%s", "".join(traceback.format_exception(error))[-MAX_LOG_CHARACTERS:])
        error = _decoder_failed(error)
    return {"code": error.code, "message": log_capture.plain_text(str(error), MAX_ERROR_CHARACTERS)}


def start(folder: str, limits: dict[str, Any]) -> None:
    """Prepare this process for requests: set libvips' safety options, limits (the fields of `Limits`), and the sandbox.

    From then on it reaches libraries and its work folder only, in which libvips writes its temporary files, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # end at once: a Python handler would wait for the decoder
    import pyvips  # noqa: PLC0415 - for codec processes only

    pyvips.cache_set_max(0)
    pyvips.block_untrusted_set(True)  # noqa: FBT003 - libvips' own signature
    rlimits.apply_limits(Limits(**limits))
    files = WorkFolder(Path(folder))
    os.environ["TMPDIR"] = str(files.target.parent)
    landlock.restrict_files((*landlock.library_paths(), files.source.parent), [files.target.parent])
    seccomp.deny_system_calls()


def prepare(folder: str, content_type: str, options: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Validate the file in the work folder and compress it if it is an image; see `Codec.prepare`.

    `options` and `limits` are the fields of `EncodeOptions` and `Limits`; returns those of
    `schemas.codec.PreparedFile`.
    """
    files = WorkFolder(Path(folder))
    decoded = _prepare(files.source, files.target, content_type, encode_options(options), Limits(**limits))
    file = "source" if decoded.path == files.source else "target"
    if file == "target" and decoded.path != files.target:
        decoded.path.replace(files.target)  # a copy without the bytes after the end of the format
    fields_ = {"file": file} | {name: getattr(decoded, name) for name in ANSWER_FIELDS}
    return (
        fields_ | {"variants": [variant_fields(variant) for variant in decoded.variants]}
        if decoded.variants
        else fields_
    )


def encode_options(options: dict[str, Any]) -> EncodeOptions:
    """Return the options that a request contains as plain data."""
    variants = (
        VariantOptions(**variant | {"format": ImageFormat(variant["format"])}) for variant in options["variants"]
    )
    return EncodeOptions(**options | {"format": ImageFormat(options["format"]), "variants": tuple(variants)})


def variant_fields(variant: DecodedVariant) -> dict[str, Any]:
    """Return the fields of a variant, with the number in the name of its file instead of the path."""
    number = None if variant.path is None else int(variant.path.name.removeprefix(VARIANT))
    return {"file": number} | {name: getattr(variant, name) for name in VARIANT_FIELDS}


def _prepare(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Decoded:
    media = BY_CONTENT_TYPE.get(content_type)
    if media is None:
        raise FileTypeNotSupportedError(f"files of type {content_type} are not stored")
    with translated(limits):
        module = f"handlers.media.{media.prepared_by}" if media.prepared_by else KIND_MODULES[media.kind]
        decoded: Decoded = importlib.import_module(module).prepare(source, target, content_type, options, limits)
    return decoded


@contextlib.contextmanager
def translated(limits: Limits) -> Iterator[None]:
    """Raise our errors instead of those that libraries raise in this context."""
    try:
        yield
    except FileProcessingError:
        raise
    except MemoryError:
        raise DecoderLimitError(f"decoding takes more than {limits.max_memory >> 20} MiB of memory") from None
    except Exception as error:  # noqa: BLE001 - libraries may raise any error
        raise translate_error(error, limits) from None


def translate_error(error: Exception, limits: Limits) -> FileProcessingError:
    """Return our error for one that a library raised."""
    text = " ".join(str(error).split())[:300]
    lower_text = text.lower()
    if "file too large" in lower_text:
        return DecoderLimitError(f"decoding writes more than {limits.max_written >> 20} MiB to a file: {text}")
    is_library_error = type(error).__module__.partition(".")[0] in DECODER_LIBRARIES
    if is_disk_full(error) or (is_library_error and ("no space left" in lower_text or "quota exceeded" in lower_text)):
        return FileProcessingError(f"the disk is full: {text}", code="disk_full", retryable=True)
    if not is_library_error:
        return _decoder_failed(error)
    if OUT_OF_MEMORY.search(lower_text):
        return DecoderLimitError(f"decoding takes more than {limits.max_memory >> 20} MiB of memory: {text}")
    if "decompression bomb" in lower_text:  # Pillow's own limit
        return DecoderLimitError(f"the image has too many pixels: {text}")
    return FileCorruptedError(f"the content does not decode completely: {text}")


def _decoder_failed(error: Exception) -> FileProcessingError:
    text = " ".join(str(error).split())[:300]
    return FileProcessingError(f"{type(error).__name__}: {text}", code="decoder_failed", retryable=True)
