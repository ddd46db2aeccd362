"""A worker whose files wait for a codec process sends database calls together."""

import pytest

from handlers.database import batched_calls
from worker import app


@pytest.fixture
def calls_go_in_pairs(monkeypatch):
    """As if files always waited for a codec process, and a batch were full with two calls. No call goes alone."""
    monkeypatch.setattr(app, "FILES_AHEAD", 0)
    monkeypatch.setattr(batched_calls, "BUSY_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr(batched_calls, "BATCH_CALLS", 2)


async def test_calls_of_two_jobs_go_together_while_files_wait_for_a_codec(calls_go_in_pairs, worker_env, source):  # noqa: ARG001
    for user in ("one", "two"):
        await worker_env.send(worker_env.job(f"{source.url}/files/tone.wav", user_id=user))
    await worker_env.wait_for_outcome("completed", count=2)
    [family] = worker_env.metrics.calls_per_request.collect()
    figures = {sample.name.rpartition("_")[2]: sample.value for sample in family.samples if "le" not in sample.labels}
    assert (figures["count"], figures["sum"]) == (4, 8)  # begin, known, claim and finish
