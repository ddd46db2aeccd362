"""Follow tasks: one query per second returns the states of all followed tasks, for any number of followers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final
from uuid import UUID

import structlog

from handlers.database.task_queries import TaskQueries
from handlers.errors import FileProcessingError
from schemas.tasks import TaskState

log = structlog.stdlib.get_logger(__name__)
POLL_SECONDS: Final = 1.0
TASKS_PER_QUERY: Final = 500


class Follower:
    """The states of one task, for one reader. A slow reader misses states in between, never the newest."""

    def __init__(self) -> None:
        self._state: TaskState | None = None
        self._changed = asyncio.Event()
        self._closed = False

    def offer(self, state: TaskState) -> None:
        """Set the current state. A state that is not newer is ignored."""
        if self._state is None or state.updated_at > self._state.updated_at:
            self._state = state
            self._changed.set()

    def close(self) -> None:
        """End the iteration of `states`."""
        self._closed = True
        self._changed.set()

    async def states(self) -> AsyncIterator[TaskState]:
        """Yield each newer state, until the task has ended or `close` is called."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._closed or self._state is None:
                return
            yield self._state
            if self._state.ready:
                return


class TaskPoller:
    """Polls the database while there are followers. Close it with `aclose`."""

    def __init__(self, records: TaskQueries) -> None:
        self._records = records
        self._followers: dict[UUID, set[Follower]] = {}
        self._polling: asyncio.Task[None] | None = None

    @property
    def follower_count(self) -> int:
        """Number of followers of all tasks."""
        return sum(map(len, self._followers.values()))

    @contextlib.contextmanager
    def follow(self, task_id: UUID) -> Iterator[Follower]:
        """Follow a task within the context."""
        follower = Follower()
        self._followers.setdefault(task_id, set()).add(follower)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name="poll tasks")
        try:
            yield follower
        finally:
            followers = self._followers[task_id]
            followers.discard(follower)
            if not followers:
                del self._followers[task_id]

    async def aclose(self) -> None:
        """Close all followers and stop polling."""
        for followers in self._followers.values():
            for follower in followers:
                follower.close()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _poll(self) -> None:
        while self._followers:
            await asyncio.sleep(POLL_SECONDS)
            task_ids = list(self._followers)
            for start in range(0, len(task_ids), TASKS_PER_QUERY):
                try:
                    states = await self._records.states(task_ids[start : start + TASKS_PER_QUERY])
                except FileProcessingError as error:
                    log.warning("task states not read", code=error.code)
                    break
                for task_id, state in states.items():
                    for follower in self._followers.get(task_id, ()):
                        follower.offer(state)
