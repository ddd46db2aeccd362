import hashlib
from pathlib import Path

import av
import pytest
import pyvips

from deploy.local.samples import BROKEN_FILES, WHOLE_FILES, make_broken, make_samples
from handlers.detect import detect
from tests.run_samples import RunSamples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def folder(run_samples: RunSamples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    run_samples.copy_to(folder)
    make_broken(folder)
    return folder


def test_samples_have_their_declared_size_and_type(folder: Path) -> None:
    samples = make_samples(folder)
    assert [sample.name for sample in samples] == list(WHOLE_FILES)
    for sample in samples:
        assert sample.size == sample.path.stat().st_size
        assert detect(sample.path.read_bytes()).mime_type == sample.content_type


def test_broken_samples_have_their_declared_type(folder: Path) -> None:
    broken = make_broken(folder)
    assert [sample.name for sample in broken] == list(BROKEN_FILES)
    assert {sample.name: detect(sample.path.read_bytes()).mime_type for sample in broken} == {
        sample.name: sample.content_type for sample in broken
    }


def test_existing_samples_are_not_made_again(folder: Path) -> None:
    before = {sample.name: sample.path.stat().st_mtime_ns for sample in make_samples(folder)}
    after = {sample.name: sample.path.stat().st_mtime_ns for sample in make_samples(folder)}
    assert before == after


@pytest.mark.parametrize("name", ["photo.jpg", "cut-out.png", "animation.gif", "clip.mp4", "tone.mp3", "cube.glb"])
def test_a_sample_made_again_has_the_same_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    again = WHOLE_FILES[name][1](tmp_path)
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_all_samples_differ(folder: Path) -> None:
    samples = make_samples(folder)
    assert len({sample.path.read_bytes() for sample in samples}) == len(samples)


def test_samples_are_of_a_size_for_a_demo(folder: Path) -> None:
    sizes = {sample.name: sample.size for sample in make_samples(folder)}
    assert 1_000_000 < sizes["photo.png"] < 2_000_000
    assert 300_000 < sizes["photo.jpg"] < 800_000
    assert sum(sizes.values()) < 15_000_000


def test_pictures_have_the_properties_they_are_named_after(folder: Path) -> None:
    large = pyvips.Image.new_from_file(str(folder / "large.png"))
    assert (large.width, large.height) == (2048, 2048)
    alpha = pyvips.Image.new_from_file(str(folder / "cut-out.png"))[3]
    assert (alpha.min(), alpha.max()) == (0, 255)
    assert pyvips.Image.new_from_file(str(folder / "turned.jpg")).get("orientation") == 6
    assert pyvips.Image.new_from_file(str(folder / "animation.gif"), n=-1).get("n-pages") == 6


@pytest.mark.parametrize("name", ["clip.mp4", "tone.mp3", "tone.wav"])
def test_video_and_audio_samples_decode(folder: Path, name: str) -> None:
    with av.open(str(folder / name)) as container:
        frames = list(container.decode(container.streams[0]))
        assert len(frames) > 5
        assert 1.4 < container.duration / av.time_base < 3.5
