"""Codec: decodes and encodes files in a pool of codec processes, never in the caller's process.

A decoder that crashes, hangs or uses too much memory fails one attempt of one file. Its process is replaced; the others
continue.
"""

import asyncio
import logging
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from pydantic import JsonValue

from handlers.codec.operations import poster_request, poster_variants, prepare_request
from handlers.codec.pool import PoolClosedError, ProcessPool
from handlers.codec.process import ProcessEndedError, RequestTimeoutError
from handlers.codec.request import InvalidAnswerError, Request
from handlers.codec.sandbox import landlock, seccomp
from handlers.errors import DecoderLimitError, FileProcessingError
from handlers.media import Limits, Prepared, PreparedPoster
from handlers.observer import Observer
from handlers.settings import MediaSettings
from handlers.turns import Turns
from schemas.formats import ImageFormat
from schemas.jobs import Profile

log = logging.getLogger("async_file_processor.codec")

T = TypeVar("T")

CHECK_ONLY: Final = Profile(format=ImageFormat.KEEP)
POOL_ERRORS: Final = (TimeoutError, ProcessEndedError, PoolClosedError, InvalidAnswerError)
"""The errors of `ProcessPool.run`: the answer was late or invalid, the process ended, or the pool was closed."""
STALLED_SHARE: Final = 0.1
"""A decoder that exceeded its time limit was waiting, not working, if its processor time is below this share of it."""
AHEAD: Final = 1
"""How many requests wait in the pool itself, so that a process that becomes free gets the next one at once."""
START: Final = "handlers.codec.decoder_main:start"


@dataclass(frozen=True, slots=True)
class CodecStats:
    """Numbers of processes by state (`busy`, `idle`), and of replaced processes by reason.

    The reasons are `crashed`, `timeout` and `invalid_answer`. `network` says what denies the processes the network and
    other processes: `kernel`, for all code, or `python`, for Python code only. `files` says what denies them the files
    of others: `kernel`, or `nothing`.
    """

    processes: dict[str, int]
    restarts: dict[str, int]
    network: str
    files: str


class Codec:
    """Decodes and encodes in a pool of processes, which start on first use. Close it with `aclose`.

    Use it from one event loop at a time; `check` may be called from any thread. If files of several users wait, take
    one of `turns` before each request: the pool itself answers in order of arrival.
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
        self._network = "kernel" if seccomp.is_available() else "python"
        if self._network != "kernel":
            log.warning("seccomp is not available: network access of decoders is denied for Python code only")
        self._files = "kernel" if landlock.version() else "nothing"
        if self._files != "kernel":
            log.warning("Landlock is not available: a decoder can read and write all files that this process can")
        self._processes = ProcessPool(
            Request(START, [asdict(self._limits)], _unchanged, gets_folder=True),
            size=settings.codec_processes,
            tasks=settings.codec_max_tasks,
            seconds=settings.codec_timeout_seconds,
            temp_dir=settings.temp_dir,
        )
        self.turns = Turns(settings.codec_processes + AHEAD)
        self._restarts: Counter[str] = Counter()

    async def prepare(self, source: Path, target: Path, content_type: str, profile: Profile) -> Prepared:
        """Validate the file at `source` and, if it is an image, compress it to `target` in the same pass.

        The path of the result is `target` if the compressed image is smaller. Else it is `source`, or `target` for a
        copy without bytes after its end, a repaired copy, or sanitised SVG. With the profile's format `keep`, and for
        all other kinds, nothing is compressed.

        Raises:
            FileCorruptedError: the file is not what `content_type` says, or does not decode completely.
            FileTypeNotSupportedError: `content_type`, or what the file contains, is not stored.
            DecoderLimitError: the file exceeds a limit, such as its pixels, or decoding it takes too much memory or
                time. Retryable if the process hardly ran in that time, because it waited or the machine is overloaded.
            FileProcessingError: retryable. `decoder_crashed`: the process ended, perhaps not because of this file;
                `decoder_failed`: the decoder raised an unknown error, its answer does not match `schemas/codec.py`, or
                the file could not be passed to it; `disk_full`: there is no space for the result.
        """
        return await self._run(prepare_request(source, target, content_type, profile, self._limits))

    async def make_poster(self, source: Path, target: Path, content_type: str, profile: Profile) -> PreparedPoster:
        """Make the placeholder and the variants of a video's poster, or the waveform of audio.

        The file has been prepared before. Files are written beside `target`. Raises the errors of `prepare`.
        """
        return await self._run(poster_request(source, target, content_type, profile, self._limits))

    async def add_poster(self, prepared: Prepared, target: Path, profile: Profile) -> Prepared:
        """Return `prepared` with a video's placeholder and variants, or the waveform of audio; other files unchanged.

        This is a request of its own, after the file was found valid. If it fails, the failure is logged and `prepared`
        is returned unchanged, so the file is still stored. After a retryable error it is sent once more.
        """
        if poster_variants(prepared.content_type, profile) is None:
            return prepared
        for is_last in (False, True):
            try:
                poster = await self.make_poster(prepared.path, target, prepared.content_type, profile)
            except FileProcessingError as error:
                if is_last or not error.retryable:
                    log.warning(
                        "no poster", extra={"code": error.code, "reason": str(error), "kind": prepared.content_type}
                    )
                    break
            else:
                return replace(prepared, thumbhash=poster.thumbhash, variants=poster.variants)
        return prepared

    async def call(self, operation: str, *arguments: JsonValue) -> JsonValue:
        """Call any function (`module:function`) in a codec process and return its result, which is plain data.

        Only tests use it. Raises the errors of `prepare`; an exception of the function becomes `decoder_failed`.
        """
        return await self._run(Request(operation, arguments, _unchanged, self._limits.seconds))

    def check(self, source: Path, content_type: str) -> None:
        """Validate a file, and block until that is done. Raises the errors of `prepare`.

        It may be called in a thread that runs an event loop, too.
        """
        unused = source.with_name(f"{source.name}.unused")
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self.prepare(source, unused, content_type, CHECK_ONLY)).result()

    async def aclose(self) -> None:
        """End all processes; callers of busy ones get `decoder_crashed`. The codec may be used again."""
        await self._processes.aclose()

    def waiting(self) -> dict[str, int]:
        """Return how many files wait for a `codec` process, for metrics."""
        return {"codec": self.turns.waiting}

    def stats(self) -> CodecStats:
        """Return the numbers of busy, idle and replaced processes, and how they are sandboxed, for metrics."""
        total = self._settings.codec_processes if self._processes.has_started else 0
        busy = min(len(self._processes.waiting), total)
        return CodecStats({"busy": busy, "idle": total - busy}, dict(self._restarts), self._network, self._files)

    async def _run(self, request: Request[T]) -> T:
        """Send a request to a codec process; cancelling the call ends that process."""
        try:
            pid, answer = await self._processes.run(request)
        except POOL_ERRORS as error:
            raise self._translate(error) from None
        for line in answer.log:  # not in the pool's thread, which lacks the caller's logging context
            log.log(line.level, "%s", line.message, extra={"codec_logger": line.logger, "codec_process": pid})
        return answer.result()

    def _translate(self, error: BaseException) -> FileProcessingError:
        """Count a replaced process by its reason; return the error to raise instead of one of POOL_ERRORS."""
        hit_cpu_limit = isinstance(error, ProcessEndedError) and error.exitcode == -signal.SIGXCPU
        if hit_cpu_limit or isinstance(error, TimeoutError):
            self._count_restart("timeout")
            return self._timeout_error(error)
        if isinstance(error, InvalidAnswerError):
            self._count_restart("invalid_answer")
            return FileProcessingError(
                f"the decoder's answer is invalid: {error}", code="decoder_failed", retryable=True
            )
        self._count_restart("crashed")
        return FileProcessingError(f"the codec process ended: {error}", code="decoder_crashed", retryable=True)

    def _timeout_error(self, error: BaseException) -> DecoderLimitError:
        """Return the error of a late answer. If the process hardly ran, it is retryable: the file is not the reason."""
        problem = f"decoding takes longer than {self._limits.seconds:g} s (CODEC_TIMEOUT_SECONDS)"
        if isinstance(error, RequestTimeoutError) and error.cpu_seconds < STALLED_SHARE * self._limits.seconds:
            problem += f", although it needed only {error.cpu_seconds:.1f} s of processor time"
            return DecoderLimitError(problem, retryable=True)
        return DecoderLimitError(problem)

    def _count_restart(self, reason: str) -> None:
        self._restarts[reason] += 1
        self._observer.codec_restarted(reason)


def _unchanged(result: T) -> T:
    return result
