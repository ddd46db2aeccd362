"""The short form of `tests.fuzz.run`: 500 damaged files. `make fuzz` runs the long one."""

from random import Random

import pytest

from tests.fuzz.mutate import MUTATIONS, mutated
from tests.fuzz.run import Fuzz
from tests.fuzz.strict_decoders import rejects
from tests.fuzz.counts import OUTCOMES
from tests.media_samples import MAKERS, media_sample

CASES = 500
SEED = 20_261_101
LENIENT = {"video/webm", "video/x-matroska", "audio/mpeg", "audio/wav", "model/obj"}
"""Types of which the strict decoder takes what is there; that files are whole is shown by tests/contracts/media."""


async def test_no_damaged_file_crashes_hangs_or_is_stored(tmp_path):
    fuzz = Fuzz(tmp_path, SEED)
    await fuzz.run(range(CASES), lambda _: None)
    assert fuzz.tally.findings == [], fuzz.tally.table()
    ends = {end: sum(count for (_, ended), count in fuzz.tally.ends.items() if ended == end) for end in OUTCOMES}
    assert sum(ends.values()) == CASES
    assert min(ends["type_not_supported"], ends["corrupted"], ends["stored"]) > CASES // 20  # else it shows nothing


async def test_a_case_comes_out_the_same_again(tmp_path):
    one, other = Fuzz(tmp_path, SEED), Fuzz(tmp_path, SEED)
    for fuzz in (one, other):
        await fuzz.run(range(100, 150), lambda _: None)
    assert one.tally.ends == other.tally.ends


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_damages(mutation):
    content, other = media_sample("png").content, media_sample("jpeg").content
    random = Random(SEED)  # noqa: S311 - repeatable damage
    assert sum(mutation(random, content, other) != content for _ in range(20)) > 15
    assert mutated(Random(1), content, other) == mutated(Random(1), content, other)  # noqa: S311 - the same


@pytest.mark.parametrize("name", MAKERS)
def test_a_strict_decoder_takes_the_whole_and_not_a_part(tmp_path, name):
    sample, path = media_sample(name), tmp_path / "file"
    path.write_bytes(sample.content)
    assert rejects(path, sample.content_type) is None
    path.write_bytes(sample.content[: len(sample.content) * 2 // 3])
    assert (rejects(path, sample.content_type) is None) == (sample.content_type in LENIENT)
