"""The program of a codec process: set its limits once, then prepare one file after the other.

Whatever a decoder raises becomes one of our errors here, since nothing else may cross the process boundary.
"""

import importlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from handlers.errors import DecoderLimitError, FileCorruptedError, FileProcessingError, FileTypeNotSupportedError
from handlers.media import BY_CONTENT_TYPE, Kind, Limits, Prepared, Recipe, guard, logbook

DECODERS: Final = {
    Kind.IMAGE: "handlers.media.image",
    Kind.VIDEO: "handlers.media.video",
    Kind.AUDIO: "handlers.media.audio",
    Kind.MODEL: "handlers.media.model3d",
    Kind.ARCHIVE: "handlers.media.archive",
}
"""The module that prepares each kind; imported when the first file of its kind comes."""


def start(limits: Limits) -> None:
    """Prepare this process for its life: limits, and libvips' safety catches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends us in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # at once: a handler in Python would wait for the decoder
    import pyvips  # noqa: PLC0415 - for a codec process alone

    pyvips.cache_set_max(0)
    pyvips.block_untrusted_set(True)  # noqa: FBT003 - libvips' own signature
    guard.confine(limits)


def call(limits: Limits, function: Callable[..., Any], *args: object) -> logbook.Answer:
    """Call a function as one file's work: with a processor time of its own, its log kept for the caller."""
    guard.allow(limits.seconds)
    with logbook.kept() as lines:
        try:
            return logbook.Answer(lines, function(*args))
        except FileProcessingError as error:
            return logbook.Answer(lines, error=error)


def prepare(source: Path, target: Path, content_type: str, recipe: Recipe, limits: Limits) -> Prepared:
    """Validate the file whole, compress what is an image; see `Codec.prepare`."""
    media = BY_CONTENT_TYPE.get(content_type)
    if media is None:
        raise FileTypeNotSupportedError(f"{content_type} is not stored")
    guard.write_beside(target)
    try:
        prepared: Prepared = importlib.import_module(DECODERS[media.kind]).prepare(
            source, target, content_type, recipe, limits
        )
    except FileProcessingError:
        raise
    except MemoryError:
        raise DecoderLimitError(f"decoding takes more than {limits.max_memory >> 20} MiB of memory") from None
    except Exception as error:  # noqa: BLE001 - whatever it is, it must cross the boundary as ours
        raise translated(error, limits) from None
    return prepared


def translated(error: Exception, limits: Limits) -> FileProcessingError:
    """Turn what a decoder raised into our error. Decoders are named by module, so that none is imported for it."""
    text = " ".join(str(error).split())[:300]
    said = text.lower()
    if "file too large" in said:
        return DecoderLimitError(f"decoding writes more than {limits.max_written >> 20} MiB to a file: {text}")
    if type(error).__module__.partition(".")[0] not in {"pyvips", "av", "zipfile", "PIL"}:
        return FileProcessingError(f"{type(error).__name__}: {text}", code="decoder_failed", retryable=True)
    if "no space left" in said:
        return FileProcessingError(f"the disk is full: {text}", code="disk_full", retryable=True)
    if "memory" in said:
        return DecoderLimitError(f"decoding takes more than {limits.max_memory >> 20} MiB of memory: {text}")
    if "decompression bomb" in said:  # Pillow's own limit
        return DecoderLimitError(f"the image has too many pixels: {text}")
    return FileCorruptedError(f"the content does not decode whole: {text}")
