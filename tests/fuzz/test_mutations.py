"""The short form of `tests.fuzz.run`: 500 damaged files. `make fuzz` runs the long one."""

from random import Random

import pytest

from tests.fuzz.counts import OUTCOMES
from tests.fuzz.mutate import MUTATIONS, mutated
from tests.fuzz.run import Fuzz
from tests.fuzz.strict_decoders import rejection_reason
from tests.media_samples import MAKERS, media_sample

CASES = 500
SEED = 20_261_101
LENIENT = {
    *("video/webm", "video/x-matroska", "audio/mpeg", "audio/wav", "model/obj"),
    *("audio/webm", "audio/x-matroska", "video/mp2t", "audio/aiff"),
    *("model/mtl", "text/plain", "text/vtt", "application/x-subrip"),
}
"""Types whose strict decoder accepts truncated files; tests/contracts/media checks that Outlast rejects them."""


async def test_no_damaged_file_crashes_hangs_or_is_stored(tmp_path):
    fuzz = Fuzz(tmp_path, SEED)
    await fuzz.run(range(CASES), lambda _: None)
    assert fuzz.counts.findings == [], fuzz.counts.table()
    outcomes = {
        end: sum(count for (_, outcome), count in fuzz.counts.outcomes.items() if outcome == end) for end in OUTCOMES
    }
    assert sum(outcomes.values()) == CASES
    assert (
        min(outcomes["type_not_supported"], outcomes["corrupted"], outcomes["stored"]) > CASES // 20
    )  # otherwise the run proves little


async def test_a_case_is_reproducible(tmp_path):
    one, other = Fuzz(tmp_path, SEED), Fuzz(tmp_path, SEED)
    for fuzz in (one, other):
        await fuzz.run(range(100, 150), lambda _: None)
    assert one.counts.outcomes == other.counts.outcomes


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_changes_the_file_reproducibly(mutation):
    content, other = media_sample("png").content, media_sample("jpeg").content
    random = Random(SEED)  # noqa: S311 - repeatable damage
    assert sum(mutation(random, content, other) != content for _ in range(20)) > 15
    assert mutated(Random(1), content, other) == mutated(Random(1), content, other)  # noqa: S311 - the same


@pytest.mark.parametrize("name", MAKERS)
def test_a_strict_decoder_accepts_a_sample_and_rejects_a_truncated_one(tmp_path, name):
    sample, path = media_sample(name), tmp_path / "file"
    path.write_bytes(sample.content)
    assert rejection_reason(path, sample.content_type) is None
    path.write_bytes(sample.content[: len(sample.content) * 2 // 3])
    assert (rejection_reason(path, sample.content_type) is None) == (sample.content_type in LENIENT)
