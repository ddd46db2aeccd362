"""Notices that an exchange, a queue or a binding was deleted while connected, and has it declared again.

RabbitMQ reports a deleted queue only to its consumers, and to publishers by returning a mandatory message. It does
not report deleted exchanges and bindings. Therefore the topology is also checked every TOPOLOGY_CHECK_SECONDS, and for
`/readyz`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from worker.broker.errors import BROKER_ERRORS, translate_broker_errors
from worker.broker.topology import TopologyError

log = structlog.stdlib.get_logger(__name__)
TOPOLOGY_CHECK_SECONDS: Final = 10.0
RECHECK_SECONDS: Final = 1.0
"""Pause before the next check after a deletion: RabbitMQ cancels consumers before it has finished deleting a queue."""
LIMIT_SECONDS: Final = 30.0
"""Time limit of one check, with the declarations."""
MAX_AGE_SECONDS: Final = 1.0
"""Age up to which `/readyz` uses the result of the last check, so that its callers cannot cause load on RabbitMQ."""
ANSWER_SECONDS: Final = 0.25
"""How long `/readyz` waits for a check."""


class TopologyWatch:
    """Runs one check at a time. `problem` says what is missing; None if nothing was missing at the last check.

    `find_missing` returns the name of a missing exchange or queue, or None; `declare` declares all of them. Both may
    raise one of BROKER_ERRORS, and TopologyError.
    """

    def __init__(
        self, find_missing: Callable[[], Awaitable[str | None]], declare: Callable[[], Awaitable[None]]
    ) -> None:
        self.problem: str | None = None
        self._find_missing = find_missing
        self._declare = declare
        self._check: asyncio.Task[None] | None = None
        self._checked = time.monotonic()
        self._suspected = asyncio.Event()
        self._repaired = False

    async def run(self) -> None:
        """Check every TOPOLOGY_CHECK_SECONDS, and soon after each `suspect`, until cancelled."""
        while True:
            await self._wait(TOPOLOGY_CHECK_SECONDS)
            again = True
            while again:
                again = self._suspected.is_set()
                self._suspected.clear()
                await self.check()
                again = again or self._repaired
                if again:
                    await self._wait(RECHECK_SECONDS)

    def suspect(self) -> None:
        """Check soon, and once more a little later: the broker has cancelled a consumer."""
        self._suspected.set()

    async def check(self) -> bool:
        """Wait for the check that is running, or for a new one. Return whether nothing is known to be missing.

        If the connection is lost during the check, the result of the previous check counts.
        """
        await asyncio.shield(self._task())
        return self.problem is None

    async def recent_problem(self) -> str | None:
        """Return what is missing, according to a check that is recent if the broker answers quickly."""
        if time.monotonic() - self._checked > MAX_AGE_SECONDS:
            await asyncio.wait([self._task()], timeout=ANSWER_SECONDS)
        return self.problem

    async def aclose(self) -> None:
        """End the check that is running. Close the connection first, so that no call of aio-pika is interrupted."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.gather(self._check, return_exceptions=True)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._suspected.wait(), seconds)

    def _task(self) -> asyncio.Task[None]:
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._check_once(), name="topology check")
        return self._check

    async def _check_once(self) -> None:
        missing = None
        try:
            with translate_broker_errors():
                async with asyncio.timeout(LIMIT_SECONDS):
                    missing = await self._find_missing()
                    self._repaired = missing is not None
                    if missing is not None:
                        self.problem = f"{missing} is missing on RabbitMQ"
                        log.warning("missing on the broker; declaring it again", name=missing)
                        await self._declare()
                        log.warning("declared again; messages in a deleted queue are lost", name=missing)
            self.problem = None
        except TopologyError as error:
            self._set_problem(str(error))
        except BROKER_ERRORS as error:
            if missing is not None:  # else the connection was lost, which is reported elsewhere
                self._set_problem(f"{missing} is missing on RabbitMQ and cannot be declared: {error}")
        except Exception:
            log.exception("topology check crashed")  # the next one may succeed
        finally:
            self._checked = time.monotonic()

    def _set_problem(self, problem: str) -> None:
        self.problem = problem
        log.error("the topology on the broker is incomplete", problem=problem)
