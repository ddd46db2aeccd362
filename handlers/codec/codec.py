"""The pool of codec processes: decoding and encoding happen there, never in the caller's process.

A decoder that crashes, hangs or eats memory costs one attempt of one file: its process is replaced, the others go on.
"""

import asyncio
import logging
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from pydantic import JsonValue

from handlers.codec import seccomp
from handlers.codec.pool import ClosedError, Processes
from handlers.codec.process import EndedError
from handlers.codec.request import InvalidAnswerError, Request
from handlers.errors import DecoderLimitError, FileProcessingError
from handlers.media import BY_CONTENT_TYPE, EncodeOptions, Limits, Prepared
from handlers.observer import Observer
from handlers.settings import MediaSettings
from schemas.codec import PreparedFile
from schemas.formats import ImageFormat
from schemas.jobs import Profile

log = logging.getLogger("async_file_processor.codec")

T = TypeVar("T")

CHECK_ONLY: Final = Profile(format=ImageFormat.KEEP)
ENDS: Final = (TimeoutError, EndedError, ClosedError, InvalidAnswerError)
"""What the pool raises when a process ended before its answer, or was ended because of it."""
START: Final = "handlers.codec.decoder_main:start"
PREPARE: Final = "handlers.codec.decoder_main:prepare"
RECIPE: Final = {field.name for field in fields(EncodeOptions)}
"""The part of a profile that a codec process needs."""


@dataclass(frozen=True, slots=True)
class CodecStats:
    """Processes by state (`busy`, `idle`), and how often one was replaced, by reason.

    The reasons are `crashed`, `timeout` and `invalid_answer`. `network` is what keeps the processes from it: `kernel`,
    for all code, or `python`, for Python's own sockets alone.
    """

    processes: dict[str, int]
    restarts: dict[str, int]
    network: str


class Codec:
    """Decodes and encodes in processes of its own, started on first use. Close it with `aclose`.

    Usable from one event loop at a time; `check` from any thread.
    """

    def __init__(self, settings: MediaSettings, observer: Observer | None = None) -> None:
        self._settings = settings
        self._observer = observer or Observer()
        self._limits = Limits(
            max_pixels=settings.max_image_pixels,
            max_frames=settings.max_image_frames,
            max_memory=settings.codec_memory_mb * 1024 * 1024,
            max_written=max(settings.codec_memory_mb * 1024 * 1024, settings.max_file_bytes),
            seconds=settings.codec_timeout_seconds,
        )
        self._network = "kernel" if seccomp.kernel_can_deny_network() else "python"
        if self._network != "kernel":
            log.warning("no seccomp here: decoders are kept from the network only as far as Python can")
        self._processes = Processes(
            Request(START, [asdict(self._limits)], _unread),
            settings.codec_processes,
            settings.codec_max_tasks,
            settings.codec_timeout_seconds,
        )
        self._restarts: Counter[str] = Counter()

    async def prepare(self, source: Path, target: Path, content_type: str, profile: Profile) -> Prepared:
        """Validate the file at `source` whole and, where it is an image, compress it to `target` in the same pass.

        `target` is written only where that made it smaller; else the answer's path is `source`, which is kept. With
        the profile's format `keep`, and for all that are no images, the file is validated and kept.

        Raises:
            FileCorruptedError: the file is not what `content_type` says, or does not decode whole.
            FileTypeNotSupportedError: `content_type` is not stored.
            DecoderLimitError: decoding takes too many pixels, too much memory or too long.
            FileProcessingError: retryable. `decoder_crashed`: the decoder's process died, perhaps not by this file;
                `decoder_failed`: the decoder has an error, or its answer is not what `schemas/codec.py` describes.
        """
        return await self._run(prepare_request(source, target, content_type, profile, self._limits))

    async def call(self, operation: str, *arguments: JsonValue) -> JsonValue:
        """Call any function (`module:function`) in a codec process, with its limits, and return its result: plain data.

        For tests of the limits. Raises the errors of `prepare`; an exception of the function is `decoder_failed`.
        """
        return await self._run(Request(operation, arguments, _unread, self._limits.seconds))

    def check(self, source: Path, content_type: str) -> None:
        """Validate the file whole and wait for it; raise what `prepare` raises. Also inside of a running event loop."""
        unused = source.with_name(f"{source.name}.unused")
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self.prepare(source, unused, content_type, CHECK_ONLY)).result()

    async def aclose(self) -> None:
        """End the processes, also busy ones, whose callers get `decoder_crashed`. The codec may be used again."""
        await self._processes.aclose()

    def stats(self) -> CodecStats:
        """Tell how busy the pool is, for metrics."""
        total = self._settings.codec_processes if self._processes.has_started else 0
        busy = min(len(self._processes.waiting), total)
        return CodecStats({"busy": busy, "idle": total - busy}, dict(self._restarts), self._network)

    async def _run(self, request: Request[T]) -> T:
        """Send a request to a codec process; cancelling the call ends that process."""
        try:
            pid, answer = await self._processes.run(request)
        except ENDS as error:
            raise self._ended(error) from None
        for line in answer.log:  # here, and not in the pool's thread: the caller's context is added to them
            log.log(line.level, "%s", line.message, extra={"codec_logger": line.logger, "codec_process": pid})
        return answer.result()

    def _ended(self, error: BaseException) -> FileProcessingError:
        """Translate the end of a process."""
        is_late = isinstance(error, EndedError) and error.exitcode == -signal.SIGXCPU
        if is_late or isinstance(error, TimeoutError):
            self._count("timeout")
            return DecoderLimitError(f"decoding takes longer than {self._limits.seconds:g} s (CODEC_TIMEOUT_SECONDS)")
        if isinstance(error, InvalidAnswerError):
            self._count("invalid_answer")
            return FileProcessingError(
                f"the decoder's answer is invalid: {error}", code="decoder_failed", retryable=True
            )
        self._count("crashed")
        return FileProcessingError(f"the decoder's process ended: {error}", code="decoder_crashed", retryable=True)

    def _count(self, reason: str) -> None:
        self._restarts[reason] += 1
        self._observer.codec_restarted(reason)


def prepare_request(
    source: Path, target: Path, content_type: str, profile: Profile, limits: Limits
) -> Request[Prepared]:
    """Return the request that `Codec.prepare` sends."""
    recipe = profile.model_dump(mode="json", include=RECIPE)
    arguments: list[JsonValue] = [str(source), str(target), content_type, recipe, asdict(limits)]
    paths = {"source": source, "target": target}
    return Request(PREPARE, arguments, partial(_prepared, paths), limits.seconds)


def _prepared(paths: dict[str, Path], result: object) -> Prepared:
    """Check the result of `prepare`; raise ValueError if it is not one."""
    file = PreparedFile.model_validate(result)
    media = BY_CONTENT_TYPE.get(file.content_type)
    if media is None:
        raise ValueError(f"{file.content_type} is no content type that is stored")
    return Prepared(path=paths[file.file], extension=media.extension, **file.model_dump(exclude={"file"}))


def _unread(result: T) -> T:
    return result
