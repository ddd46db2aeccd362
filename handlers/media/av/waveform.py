"""The waveform of audio: how loud it is over time, as a picture. Runs in a codec process.

It is grey on a transparent ground, mirrored at the middle, and scaled so that its loudest part fills the height.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import pyvips

from handlers.media import VARIANT, DecodedVariant, EncodeOptions, Limits, Poster
from handlers.media.av.audio import without_tags
from handlers.media.av.decode import first_stream, open_container

BLOCK: Final = 256
"""Samples whose absolute values are averaged to one level: 5 ms at 48 kHz."""
BATCH: Final = BLOCK * 1024
"""Samples that are averaged in one call of libvips: smaller batches take more time for each sample."""
MAX_BLOCKS: Final = 1 << 16
"""When there are more levels, each two neighbours become one, the higher: from six minutes on at 48 kHz."""
SAMPLE_BYTES: Final = 2
GREY: Final = 128
THINNEST: Final = 1.0
"""Height in pixels of silence, both above and below the middle."""


def make(source: Path, target: Path, content_type: str, options: EncodeOptions, limits: Limits) -> Poster:
    """Make the waveforms of the first audio stream, which are written beside `target`.

    Raises:
        FileTypeNotSupportedError: it has no audio stream.
    """
    frames = without_tags(source, target.with_name("frames"), content_type)
    with open_container(frames, content_type, limits) as container:
        stream = first_stream(container.streams.audio, "audio")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=stream.rate)
        samples = (
            part
            for packet in container.demux(stream)
            for frame in packet.decode()
            for part in resampler.resample(frame)
        )
        levels = loudness(bytes(part.planes[0])[: SAMPLE_BYTES * part.samples] for part in samples)
    variants = []
    for number, wanted in enumerate(options.variants):
        path = target.with_name(f"{VARIANT}{number}")
        width, height = wanted.width, wanted.height or wanted.width
        draw(levels, width, height).pngsave(str(path), keep="none")
        variants.append(
            DecodedVariant(name=wanted.name, path=path, content_type="image/png", width=width, height=height)
        )
    return Poster(variants=tuple(variants))


def loudness(pieces: Iterator[bytes]) -> list[int]:
    """Return the levels of equal parts of the sound, 0 to 32,768; a few more than MAX_BLOCKS at most.

    The level of a part is the mean of the absolute values of BLOCK samples; the highest of these in a longer part.
    """
    levels: list[int] = []
    waiting, each = bytearray(), 1
    for piece in pieces:
        waiting += piece
        if len(waiting) >= SAMPLE_BYTES * BATCH:
            end = len(waiting) - len(waiting) % (SAMPLE_BYTES * BLOCK * each)
            levels += _merged(_averages(bytes(waiting[:end])), each)
            del waiting[:end]
        if len(levels) > MAX_BLOCKS:
            levels, each = _merged(levels, 2), each * 2
    return [*levels, *_merged(_averages(bytes(waiting)), each)]


def _averages(samples: bytes) -> list[int]:
    count = len(samples) // SAMPLE_BYTES
    if not count:
        return []
    row = pyvips.Image.new_from_memory(samples, count, 1, 1, "short").cast("int").abs()
    return memoryview(row.shrinkh(min(BLOCK, count)).cast("int").write_to_memory()).cast("i").tolist()


def _merged(levels: list[int], each: int) -> list[int]:
    """Return the highest of each `each` neighbouring levels."""
    return levels if each == 1 else [max(levels[at : at + each]) for at in range(0, len(levels), each)]


def draw(levels: list[int], width: int, height: int) -> pyvips.Image:
    """Draw the waveform. There must be at least one level."""
    edges = [at * len(levels) // width for at in range(width + 1)]
    columns = [max(levels[start : max(end, start + 1)]) for start, end in itertools.pairwise(edges)]
    loudest = max(*columns, 1)
    heights = [max(THINNEST, level / loudest * height / 2) for level in columns]
    middle = pyvips.Image.xyz(width, height)[1] - (height - 1) / 2
    shown = middle.abs() <= pyvips.Image.new_from_array([heights]).replicate(1, height)
    grey = shown.new_from_image(GREY).cast("uchar").copy(interpretation="b-w")
    return grey.bandjoin(shown)
