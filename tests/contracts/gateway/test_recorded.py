"""Compares the gateway, or with `make test-live` a real project, with responses recorded from a real project."""

import pytest


@pytest.mark.parametrize("recorded", ["storage", "tus"])
async def test_responses_are_those_recorded_from_a_real_project(project, recorded):
    assert await project.replay(recorded) > 0
