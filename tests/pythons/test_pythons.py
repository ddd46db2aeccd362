import os

import pytest

from tests.pythons.interpreters import OWN, asked, find, image_minor, wanted
from tests.pythons.smoke import Smoke
from tests.pythons.summary import KEY

FOUND = {minor: found for minor in wanted() if (found := find(minor)) is not None}
CI = bool(os.environ.get("CI"))


@pytest.mark.parametrize("minor", [minor for minor in FOUND if minor != OWN])
def test_the_smoke_passes_on_every_other_python_that_is_found(minor, record_property):
    record_property(KEY, Smoke(FOUND[minor]).run())


def test_every_python_that_pyproject_names_is_accounted_for(record_property):
    assert OWN in wanted()
    record_property(KEY, f"Python {OWN}: the whole suite")
    for minor in wanted():
        if minor not in FOUND and minor != OWN:
            record_property(KEY, f"Python {minor}: no interpreter found, not tested")


def test_the_version_of_the_image_is_one_of_them_and_in_ci_it_is_there():
    assert image_minor() in wanted()
    assert not CI or image_minor() in {*FOUND, OWN}, f"Python {image_minor()}, which the image has, is not installed"


def test_a_python_that_does_not_exist_is_not_found():
    assert find("3.99") is None


def test_what_does_not_run_is_no_interpreter(tmp_path):
    program = tmp_path / "python3.12"
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)
    assert asked(program) is None
    assert asked(tmp_path / "none") is None
