"""pytest plugin: the demo's sample files are made once per run, because making them takes two seconds.

Local stacks and fixtures get copies, so that a test may add files to its folder. Processes that tests start make their
own, unless the test copies them.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.samples import Sample, make_samples


class RunSamples:
    """The sample files of the run in a folder that all processes of xdist share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def copy_to(self, folder: Path) -> list[Sample]:
        """Copy the samples to a folder, which is created if necessary. The first call of a run makes them."""
        with self._folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make_samples(self._folder)
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)
        return make_samples(folder)


@pytest.fixture(scope="session", autouse=True)
def run_samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunSamples]:
    """The run's samples, which `Stack` copies too."""
    base = tmp_path_factory.getbasetemp()
    found = RunSamples((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "run-samples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.local.stack.make_samples", found.copy_to)
        yield found


@pytest.fixture(scope="session")
def samples(run_samples: RunSamples, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """The demo's sample files in a folder of this process."""
    return run_samples.copy_to(tmp_path_factory.mktemp("samples"))
