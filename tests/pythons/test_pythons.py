import os

import pytest

from tests.pythons.interpreters import CURRENT, find, image_minor, query, supported_versions
from tests.pythons.smoke import Smoke
from tests.pythons.summary import KEY

FOUND = {minor: found for minor in supported_versions() if (found := find(minor)) is not None}
CI = bool(os.environ.get("CI"))


@pytest.mark.parametrize("minor", [minor for minor in FOUND if minor != CURRENT])
def test_the_smoke_test_passes_on_every_other_installed_python(minor, record_property, rabbitmq_url, samples):
    smoke = Smoke(FOUND[minor], units=False, rabbitmq_url=rabbitmq_url, samples=samples[0].path.parent)
    result = smoke.run()
    record_property(KEY, result)
    assert result.startswith(f"Python {minor}.")


def test_every_supported_python_is_in_the_summary(record_property):
    assert CURRENT in supported_versions()
    record_property(KEY, f"Python {CURRENT}: the whole suite")
    for minor in supported_versions():
        if minor not in FOUND and minor != CURRENT:
            record_property(KEY, f"Python {minor}: no interpreter found, not tested")


def test_the_images_python_is_supported_and_installed_in_ci():
    assert image_minor() in supported_versions()
    assert not CI or image_minor() in {*FOUND, CURRENT}, (
        f"Python {image_minor()}, which the image has, is not installed"
    )


def test_a_python_that_does_not_exist_is_not_found():
    assert find("3.99") is None


def test_a_program_that_does_not_run_is_not_an_interpreter(tmp_path):
    program = tmp_path / "python3.12"
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)
    assert query(program) is None
    assert query(tmp_path / "none") is None
