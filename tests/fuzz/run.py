"""Thousands of damaged files through detection and the codec's processes, judged by strict decoders of another make.

    python -m tests.fuzz.run --cases 10000 --seed 1

A case is a whole sample, damaged by `mutate` as its number and the seed say. Found is: a process that crashed, a call
that came back too late, an error nobody foresaw, and a file that was stored though it should not: one that a strict
decoder rejects, that is larger than what came, or that is detected as another type than it is stored as. Exit code 1
when anything was found.
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
from tests.media_samples import MAKERS, media_sample

LIMIT_SECONDS = 10.0
MARGIN_SECONDS = 10.0
SETTINGS = {"codec_processes": 2, "codec_timeout_seconds": LIMIT_SECONDS, "max_image_pixels": 4_000_000}
PROFILES = (Profile(), Profile(format=ImageFormat.KEEP), Profile(format=ImageFormat.AVIF))
WEIGHTS = (4, 5, 1)
AT_ONCE = 4
EVERY = 500


class Fuzz:
    """One run: the pools, the folder, the tally."""

    def __init__(self, folder: Path, seed: int, keep: Path | None = None) -> None:
        self.tally = FuzzCounts()
        self._folder, self._seed, self._keep = folder, seed, keep
        self._names = _in_turn()
        self._codec = Codec(MediaSettings(**SETTINGS))
        self._judges = ProcessPool(Request("builtins:int", [], int), size=2, tasks=0, seconds=3 * LIMIT_SECONDS)

    async def run(self, cases: range, say: Callable[[str], None]) -> None:
        """Run these cases, some at once."""
        waiting = iter(cases)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._some(waiting, say))
        finally:
            await self._codec.aclose()
            await self._judges.aclose()

    async def _some(self, waiting, say: Callable[[str], None]) -> None:
        for number in waiting:
            await self._one(number)
            done = sum(self.tally.ends.values())
            if done % EVERY == 0:
                say(f"{done:,} cases, {len(self.tally.findings)} findings, slowest {self.tally.slowest:.1f} s")

    async def _one(self, number: int) -> None:
        random = Random(f"{self._seed}/{number}")  # noqa: S311 - repeatable damage
        name = self._names[number % len(self._names)]
        other = media_sample(random.choice(self._names)).content
        how, content = mutated(random, media_sample(name).content, other)
        profile = random.choices(PROFILES, WEIGHTS)[0]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            source = Path(folder) / "source"
            source.write_bytes(content)
            started = time.monotonic()
            end, what = await self._end(source, profile)
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - started)
        self.tally.ends[media_sample(name).content_type, end] += 1
        if end in FINDINGS:
            self.tally.findings.append((number, name, how, f"{end}: {what}"))
            if self._keep is not None:
                (self._keep / f"{self._seed}-{number}").write_bytes(content)

    async def _end(self, source: Path, profile: Profile) -> tuple[str, str]:
        """Send one file through; return how it ended, and the words to it."""
        content = source.read_bytes()
        media = detect(content[:DETECTION_BYTES]).media
        if media is None:
            return "type_not_supported", ""
        try:
            async with asyncio.timeout(LIMIT_SECONDS + MARGIN_SECONDS):
                prepared = await self._codec.prepare(source, source.parent / "out", media.content_type, profile)
        except FileProcessingError as error:
            names = {"decoder_crashed": "crashed"}
            end = names.get(error.code, error.code)
            return (end if end in OUTCOMES else "failed"), f"{error.code}: {error}"
        except TimeoutError:
            return "hung", f"no answer within {LIMIT_SECONDS + MARGIN_SECONDS:g} s"
        wrong = await self._wrong(prepared, len(content))
        return ("wrong", f"{prepared.content_type}: {wrong}") if wrong else ("stored", "")

    async def _wrong(self, prepared: Prepared, original: int) -> str | None:
        """Return what is wrong with a stored file."""
        if prepared.file_size > original:
            return f"{prepared.file_size:,} bytes were made of {original:,}"
        found = detect(prepared.path.read_bytes()).mime_type
        if found != prepared.content_type and (prepared.content_type, found) != ("audio/mp4", "video/mp4"):
            return f"it is detected as {found}"
        try:
            _, answer = await self._judges.run(
                Request(
                    "tests.fuzz.strict_decoders:rejects",
                    [str(prepared.path), prepared.content_type],
                    lambda reason: reason,
                )
            )
            return answer.result()
        except (TimeoutError, ProcessEndedError) as error:
            return f"the strict decoder did not end well: {error!r}"


def _in_turn() -> list[str]:
    """Return the samples' names so that every type comes equally often, its variants in turn."""
    by_type = [[name for name in MAKERS if MAKERS[name][0] == media.content_type] for media in MEDIA_TYPES]
    return [names[turn % len(names)] for turn in range(max(map(len, by_type))) for names in by_type]


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first case's number, to repeat one")
    parser.add_argument("--keep", type=Path, help="a folder to put the files of findings in")
    given = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {text}", flush=True)  # noqa: T201 - its output

    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="outlast.fuzz-") as folder:
        fuzz = Fuzz(Path(folder), given.seed, given.keep)
        try:
            asyncio.run(fuzz.run(range(given.first, given.first + given.cases), say))
        finally:  # also when the run itself broke: that is told, and what was found until then is not lost
            _tell(fuzz.tally, given.seed, given.cases, say)
    return 1 if fuzz.tally.findings else 0


def _tell(tally: FuzzCounts, seed: int, cases: int, say: Callable[[str], None]) -> None:
    for number, name, how, what in tally.findings:
        say(f"FOUND case {number} ({name}, {how}): {what}")
    done = sum(tally.ends.values())
    say(f"seed {seed}, {done:,} of {cases:,} cases{'' if done == cases else ': THE RUN BROKE'}\n{tally.table()}")


if __name__ == "__main__":
    sys.exit(main())
