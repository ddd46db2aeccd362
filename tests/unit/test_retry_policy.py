from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import errors
from worker.consume.retry_policy import FEW, JITTER, GiveUp, Policy, Retry, decide, draw, longest

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


chances = st.floats(0, 1, exclude_max=True)


@given(failures, st.integers(1, 50), policies, chances)
def test_every_verdict_can_be_performed(failure, attempt, policy, chance):
    verdict = decide(failure, attempt, policy, chance)
    may_retry = failure.retryable and attempt < min(policy.max_attempts, FEW.get(failure.code, policy.max_attempts))
    assert isinstance(verdict, Retry) is may_retry
    if isinstance(verdict, Retry):
        assert verdict.delay in policy.delays


@given(failures, policies, chances)
def test_every_failure_ends_among_the_dead(failure, policy, chance):
    attempts = 1
    while isinstance(decide(failure, attempts, policy, chance), Retry):
        attempts += 1
    assert attempts <= policy.max_attempts


@given(failures, st.integers(1, 50), policies, chances)
def test_nobody_comes_back_sooner_than_asked(failure, attempt, policy, chance):
    verdict = decide(failure, attempt, policy, chance)
    if isinstance(verdict, Retry):
        assert verdict.delay >= min(failure.retry_after or 0, policy.delays[-1])


@given(failures, st.integers(1, 50), policies, chances)
def test_jitter_moves_by_one_rung_at_most(failure, attempt, policy, chance):
    verdict, plain = decide(failure, attempt, policy, chance), decide(failure, attempt, policy)
    assert isinstance(verdict, Retry) is isinstance(plain, Retry)
    if isinstance(verdict, Retry):
        assert abs(policy.delays.index(verdict.delay) - policy.delays.index(plain.delay)) <= 1
        assert chance < JITTER or verdict == plain


@given(failures, policies)
def test_without_jitter_waits_never_grow_shorter(failure, policy):
    verdicts = [decide(failure, attempt, policy) for attempt in range(1, 20)]
    waits = [verdict.delay for verdict in verdicts if isinstance(verdict, Retry)]
    assert waits == sorted(waits)
    assert all(isinstance(verdict, GiveUp) for verdict in verdicts[len(waits) :])


@given(st.uuids(), st.integers(1, 1000))
def test_a_draw_is_a_fraction_and_the_same_next_time(task_id, attempt):
    assert 0 <= draw(task_id, attempt) < 1
    assert draw(task_id, attempt) == draw(task_id, attempt)


def test_draws_spread_what_failed_together():
    drawn = [draw(UUID(int=n * 7919), 1) for n in range(4000)]
    assert 0.22 < sum(each < JITTER for each in drawn) / len(drawn) < 0.28


def test_the_ladder_is_climbed_a_rung_an_attempt():
    delays = [decide(Failed(), attempt, LADDER) for attempt in range(1, 8)]
    assert delays == [Retry(delay) for delay in (5, 30, 120, 600, 3600, 3600, 3600)]
    assert decide(Failed(), 8, LADDER) == GiveUp()


@pytest.mark.parametrize(("asked", "delay"), [(1, 5), (7, 30), (30, 30), (31, 120), (90000, 3600)])
def test_retry_after_is_rounded_up_to_a_rung(asked, delay):
    assert decide(Failed(retry_after=asked), 1, LADDER) == Retry(delay)


def test_exceptions_of_the_tree_can_be_judged():
    assert decide(errors.SourceUnavailableError("x"), 1, LADDER) == Retry(5)
    assert decide(errors.FileCorruptedError("x"), 1, LADDER) == GiveUp()


def test_a_message_of_several_files_waits_for_the_slowest():
    assert longest([Retry(5), Retry(120)]) == 120
