"""Sends damaged files through detection and the codec processes, and checks the results with strict decoders.

    python -m tests.fuzz.run --cases 10000 --seed 1

A case is a sample damaged by `mutate`, determined by its number and the seed. Findings are: a crashed process, a call
without an answer in time, an unexpected error, and a stored file that a strict decoder rejects, that is larger than the
original, or that is detected as another type. Exit code 1 if there are findings.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from handlers.codec.codec import Codec
from handlers.codec.pool import ProcessPool
from handlers.codec.process import ProcessEndedError
from handlers.codec.request import Request
from handlers.detect import detect
from handlers.errors import FileProcessingError
from handlers.media import MEDIA_TYPES, Prepared
from handlers.pipeline.steps import DETECTION_BYTES
from handlers.settings import MediaSettings
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from tests.fuzz.counts import FINDINGS, OUTCOMES, FuzzCounts
from tests.fuzz.mutate import mutated
from tests.media_samples import MAKERS, detected_types, media_sample

LIMIT_SECONDS = 10.0
MARGIN_SECONDS = 10.0
SETTINGS = {"codec_processes": 2, "codec_timeout_seconds": LIMIT_SECONDS, "max_image_pixels": 4_000_000}
PROFILES = (Profile(), Profile(format=ImageFormat.KEEP), Profile(format=ImageFormat.AVIF))
WEIGHTS = (4, 5, 1)
AT_ONCE = 4
REPORT_EVERY = 500
REWRITTEN = {"image/svg+xml"}
"""Types that are not compressed but sanitised: the result may be larger than the source."""


class Fuzz:
    """A run: the codec, the process pool of the strict decoders, the folder, and the counts."""

    def __init__(self, folder: Path, seed: int, keep: Path | None = None) -> None:
        self.counts = FuzzCounts()
        self._folder, self._seed, self._keep = folder, seed, keep
        self._names = _sample_names()
        self._codec = Codec(MediaSettings(**SETTINGS))
        self._strict_pool = ProcessPool(Request("builtins:int", [], int), size=2, tasks=0, seconds=3 * LIMIT_SECONDS)

    async def run(self, cases: range, log: Callable[[str], None]) -> None:
        """Run the cases, AT_ONCE at a time."""
        waiting = iter(cases)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._worker(waiting, log))
        finally:
            await self._codec.aclose()
            await self._strict_pool.aclose()

    async def _worker(self, waiting, log: Callable[[str], None]) -> None:
        for number in waiting:
            await self._run_case(number)
            done = sum(self.counts.outcomes.values())
            if done % REPORT_EVERY == 0:
                log(f"{done:,} cases, {len(self.counts.findings)} findings, slowest {self.counts.slowest:.1f} s")

    async def _run_case(self, number: int) -> None:
        random = Random(f"{self._seed}/{number}")  # noqa: S311 - repeatable damage
        name = self._names[number % len(self._names)]
        other = media_sample(random.choice(self._names)).content
        mutations, content = mutated(random, media_sample(name).content, other)
        profile = random.choices(PROFILES, WEIGHTS)[0]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            source = Path(folder) / "source"
            source.write_bytes(content)
            started = time.monotonic()
            outcome, description = await self._process(source, profile)
            self.counts.slowest = max(self.counts.slowest, time.monotonic() - started)
        self.counts.outcomes[media_sample(name).content_type, outcome] += 1
        if outcome in FINDINGS:
            self.counts.findings.append((number, name, mutations, f"{outcome}: {description}"))
            if self._keep is not None:
                (self._keep / f"{self._seed}-{number}").write_bytes(content)

    async def _process(self, source: Path, profile: Profile) -> tuple[str, str]:
        """Process one file; return the outcome and its description."""
        content = source.read_bytes()
        media = detect(content[:DETECTION_BYTES]).media
        if media is None:
            return "type_not_supported", ""
        try:
            async with asyncio.timeout(LIMIT_SECONDS + MARGIN_SECONDS):
                prepared = await self._codec.prepare(source, source.parent / "out", media.content_type, profile)
        except FileProcessingError as error:
            names = {"decoder_crashed": "crashed"}
            outcome = names.get(error.code, error.code)
            return (outcome if outcome in OUTCOMES else "failed"), f"{error.code}: {error}"
        except TimeoutError:
            return "hung", f"no answer within {LIMIT_SECONDS + MARGIN_SECONDS:g} s"
        wrong = await self._defect(prepared, len(content))
        return ("wrong", f"{prepared.content_type}: {wrong}") if wrong else ("stored", "")

    async def _defect(self, prepared: Prepared, original: int) -> str | None:
        """Return why a stored file is wrong; None: it is right."""
        if prepared.file_size > original and prepared.content_type not in REWRITTEN:
            return f"{prepared.file_size:,} bytes were made of {original:,}"
        found = detect(prepared.path.read_bytes()).mime_type
        if found not in detected_types(prepared.content_type):
            return f"it is detected as {found}"
        try:
            _, answer = await self._strict_pool.run(
                Request(
                    "tests.fuzz.strict_decoders:rejection_reason",
                    [str(prepared.path), prepared.content_type],
                    lambda reason: reason,
                )
            )
            return answer.result()
        except (TimeoutError, ProcessEndedError) as error:
            return f"the strict decoder failed: {error!r}"


def _sample_names() -> list[str]:
    """Return the samples' names so that every type is equally frequent and its variants alternate."""
    by_type = [[name for name in MAKERS if MAKERS[name][0] == media.content_type] for media in MEDIA_TYPES]
    return [names[turn % len(names)] for turn in range(max(map(len, by_type))) for names in by_type]


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first case's number, to repeat one")
    parser.add_argument("--keep", type=Path, help="a folder to put the files of findings in")
    arguments = parser.parse_args()
    started = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f}  {text}", flush=True)  # noqa: T201 - its output

    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="outlast.fuzz-") as folder:
        fuzz = Fuzz(Path(folder), arguments.seed, arguments.keep)
        try:
            asyncio.run(fuzz.run(range(arguments.first, arguments.first + arguments.cases), log))
        finally:  # also after an error in the run, so that its findings are printed
            _print_summary(fuzz.counts, arguments.seed, arguments.cases, log)
    return 1 if fuzz.counts.findings else 0


def _print_summary(counts: FuzzCounts, seed: int, cases: int, log: Callable[[str], None]) -> None:
    for number, name, mutations, description in counts.findings:
        log(f"FOUND case {number} ({name}, {mutations}): {description}")
    done = sum(counts.outcomes.values())
    log(f"seed {seed}, {done:,} of {cases:,} cases{'' if done == cases else ': THE RUN FAILED'}\n{counts.table()}")


if __name__ == "__main__":
    sys.exit(main())
