"""What was recorded of a real project, sent again: to the gateway, or with `make test-live` to a real project."""

import pytest


@pytest.mark.parametrize("recorded", ["storage", "tus"])
async def test_it_answers_as_a_real_storage_api_was_seen_to(project, recorded):
    assert await project.replay(recorded) > 0
