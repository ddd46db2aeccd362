from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import errors
from worker.decide import FEW, DeadLetter, Policy, Retry, decide, longest

LADDER = Policy((5, 30, 120, 600, 3600), 8)


@dataclass(frozen=True)
class Failed:
    code: str = "source_unavailable"
    retryable: bool = True
    retry_after: float | None = None


policies = st.builds(
    Policy,
    st.lists(st.integers(1, 86400), min_size=1, max_size=6, unique=True).map(lambda found: tuple(sorted(found))),
    st.integers(1, 20),
)
failures = st.builds(
    Failed,
    st.sampled_from(["source_unavailable", "unexpected", "generation_not_found", "corrupted"]),
    st.booleans(),
    st.none() | st.floats(0, 1e6),
)


@given(failures, st.integers(1, 50), policies)
def test_every_verdict_can_be_performed(failure, attempt, policy):
    verdict = decide(failure, attempt, policy)
    if isinstance(verdict, Retry):
        assert verdict.delay in policy.delays
        assert failure.retryable
        assert attempt < policy.max_attempts
        assert attempt < FEW.get(failure.code, policy.max_attempts)


@given(failures, policies)
def test_every_failure_ends_among_the_dead(failure, policy):
    attempts = 1
    while isinstance(decide(failure, attempts, policy), Retry):
        attempts += 1
    assert attempts <= policy.max_attempts


def test_the_ladder_is_climbed_a_rung_an_attempt():
    delays = [decide(Failed(), attempt, LADDER) for attempt in range(1, 8)]
    assert delays == [Retry(delay) for delay in (5, 30, 120, 600, 3600, 3600, 3600)]
    assert decide(Failed(), 8, LADDER) == DeadLetter()


@pytest.mark.parametrize(("asked", "delay"), [(1, 5), (7, 30), (30, 30), (31, 120), (90000, 3600)])
def test_retry_after_is_rounded_up_to_a_rung(asked, delay):
    assert decide(Failed(retry_after=asked), 1, LADDER) == Retry(delay)


def test_exceptions_of_the_tree_can_be_judged():
    assert decide(errors.SourceUnavailableError("x"), 1, LADDER) == Retry(5)
    assert decide(errors.FileCorruptedError("x"), 1, LADDER) == DeadLetter()


def test_a_message_of_several_files_waits_for_the_slowest():
    assert longest([Retry(5), Retry(120)]) == 120
