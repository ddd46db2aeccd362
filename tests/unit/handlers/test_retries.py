"""`Retries`: which errors are followed by another call, and how often."""

import pytest
import stamina

from handlers.retries import Retries


class Flaky:
    """A coroutine function that raises these errors in turn, then returns its argument."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    async def __call__(self, value: str) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return value


retries = Retries(lambda error: isinstance(error, OSError), attempts=3, timeout=None, wait_max=0.01)


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_the_call_is_repeated_until_it_succeeds(failures: int) -> None:
    function = Flaky(*[OSError("busy")] * failures)
    assert await retries(function, "done") == "done"
    assert function.calls == failures + 1


async def test_the_last_error_is_raised_after_all_attempts() -> None:
    function = Flaky(*(OSError(str(number)) for number in range(5)))
    with pytest.raises(OSError, match=r"^2$"):
        await retries(function, "done")
    assert function.calls == 3


@pytest.mark.parametrize("failures", [0, 1])
async def test_another_error_is_raised_at_once(failures: int) -> None:
    function = Flaky(*[OSError("busy")] * failures, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await retries(function, "done")
    assert function.calls == failures + 1


async def test_calls_end_with_the_time_limit() -> None:
    function = Flaky(*[OSError("busy")] * 1000)
    limited = Retries(lambda error: isinstance(error, OSError), attempts=None, timeout=0.3, wait_max=0.05)
    assert stamina.is_active()
    with pytest.raises(OSError, match="busy"):
        await limited(function, "done")
    assert 2 < function.calls < 1000
