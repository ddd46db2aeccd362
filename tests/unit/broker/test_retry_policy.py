from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import errors
from worker.consume.retry_policy import (
    JITTER,
    MAX_ATTEMPTS_BY_CODE,
    GiveUp,
    Retry,
    RetryPolicy,
    decide,
    longest_delay,
    stable_random,
)

POLICY = RetryPolicy((5, 30, 120, 600, 3600), 8)


@dataclass(frozen=True)
class Failed:
    code: str = "source_unavailable"
    retryable: bool = True
    retry_after: float | None = None


policies = st.builds(
    RetryPolicy,
    st.lists(st.integers(1, 86400), min_size=1, max_size=6, unique=True).map(lambda found: tuple(sorted(found))),
    st.integers(1, 20),
)
failures = st.builds(
    Failed,
    st.sampled_from(["source_unavailable", "unexpected", "generation_not_found", "corrupted", "source_gone"]),
    st.booleans(),
    st.none() | st.floats(0, 1e6),
)


chances = st.floats(0, 1, exclude_max=True)


@given(failures, st.integers(1, 50), policies, chances)
def test_a_retry_has_a_configured_delay_and_only_while_attempts_remain(failure, attempt, policy, chance):
    decision = decide(failure, attempt, policy, chance)
    may_retry = failure.retryable and attempt < min(
        policy.max_attempts, MAX_ATTEMPTS_BY_CODE.get(failure.code, policy.max_attempts)
    )
    assert isinstance(decision, Retry) is may_retry
    if isinstance(decision, Retry):
        assert decision.delay in policy.delays


@given(failures, policies, chances)
def test_every_failure_ends_in_giving_up_within_max_attempts(failure, policy, chance):
    attempts = 1
    while isinstance(decide(failure, attempts, policy, chance), Retry):
        attempts += 1
    assert attempts <= policy.max_attempts


@pytest.mark.parametrize("code", ["source_gone", "corrupted"])
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_missing_or_empty_file_is_tried_for_some_minutes(code, chance):
    decisions = [decide(Failed(code), attempt, POLICY, chance) for attempt in range(1, 6)]
    assert decisions[-1] == GiveUp()
    assert 10 * 60 <= sum(retry.delay for retry in decisions[:-1]) <= 90 * 60


@given(failures, st.integers(1, 50), policies, chances)
def test_the_delay_is_never_shorter_than_retry_after(failure, attempt, policy, chance):
    decision = decide(failure, attempt, policy, chance)
    if isinstance(decision, Retry):
        assert decision.delay >= min(failure.retry_after or 0, policy.delays[-1])


@given(failures, st.integers(1, 50), policies, chances)
def test_jitter_changes_the_delay_by_one_step_at_most(failure, attempt, policy, chance):
    decision, plain = decide(failure, attempt, policy, chance), decide(failure, attempt, policy)
    assert isinstance(decision, Retry) is isinstance(plain, Retry)
    if isinstance(decision, Retry):
        assert abs(policy.delays.index(decision.delay) - policy.delays.index(plain.delay)) <= 1
        assert chance < JITTER or decision == plain


@given(failures, policies)
def test_delays_do_not_decrease_without_jitter(failure, policy):
    decisions = [decide(failure, attempt, policy) for attempt in range(1, 20)]
    delays = [decision.delay for decision in decisions if isinstance(decision, Retry)]
    assert delays == sorted(delays)
    assert all(isinstance(decision, GiveUp) for decision in decisions[len(delays) :])


@given(st.uuids(), st.integers(1, 1000))
def test_the_jitter_draw_is_a_stable_fraction(task_id, attempt):
    assert 0 <= stable_random(task_id, attempt) < 1
    assert stable_random(task_id, attempt) == stable_random(task_id, attempt)


def test_the_jitter_draws_are_evenly_distributed():
    drawn = [stable_random(UUID(int=n * 7919), 1) for n in range(4000)]
    assert 0.22 < sum(each < JITTER for each in drawn) / len(drawn) < 0.28


def test_each_attempt_takes_the_next_delay_until_max_attempts():
    delays = [decide(Failed(), attempt, POLICY) for attempt in range(1, 8)]
    assert delays == [Retry(delay) for delay in (5, 30, 120, 600, 3600, 3600, 3600)]
    assert decide(Failed(), 8, POLICY) == GiveUp()


@pytest.mark.parametrize(("retry_after", "delay"), [(1, 5), (7, 30), (30, 30), (31, 120), (90000, 3600)])
def test_retry_after_is_rounded_up_to_the_next_delay(retry_after, delay):
    assert decide(Failed(retry_after=retry_after), 1, POLICY) == Retry(delay)


def test_exceptions_of_the_error_tree_are_accepted():
    assert decide(errors.SourceUnavailableError("x"), 1, POLICY) == Retry(5)
    assert decide(errors.FileCorruptedError("x"), 1, POLICY) == GiveUp()


def test_a_message_with_several_retries_takes_the_longest_delay():
    assert longest_delay([Retry(5), Retry(120)]) == 120
