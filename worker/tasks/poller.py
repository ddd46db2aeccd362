"""Many watchers, one question: the states of all watched tasks are asked for once a second, whoever watches them."""

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
PAGE: Final = 500


class Follower:
    """One watcher of one task. What it does not take in time is replaced by what is newer."""

    def __init__(self) -> None:
        self._state: TaskState | None = None
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, state: TaskState) -> None:
        """Tell the state; it may be known already."""
        if self._state is None or state.updated_at > self._state.updated_at:
            self._state = state
            self._news.set()

    def close(self) -> None:
        """Have `states` end."""
        self._closed = True
        self._news.set()

    async def states(self) -> AsyncIterator[TaskState]:
        """Yield each newer state, the last one when the task has ended."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._closed or self._state is None:
                return
            yield self._state
            if self._state.ready:
                return


class Watcher:
    """Asks for all followers; close it with `aclose`."""

    def __init__(self, records: TaskQueries) -> None:
        self._records = records
        self._followers: dict[UUID, set[Follower]] = {}
        self._polling: asyncio.Task[None] | None = None

    @property
    def followers(self) -> int:
        """How many watch."""
        return sum(map(len, self._followers.values()))

    @contextlib.contextmanager
    def follow(self, task_id: UUID) -> Iterator[Follower]:
        """Follow a task while the context lasts."""
        follower = Follower()
        self._followers.setdefault(task_id, set()).add(follower)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name="watch tasks")
        try:
            yield follower
        finally:
            followers = self._followers[task_id]
            followers.discard(follower)
            if not followers:
                del self._followers[task_id]

    async def aclose(self) -> None:
        """End every follower's states."""
        for followers in self._followers.values():
            for follower in followers:
                follower.close()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _poll(self) -> None:
        while self._followers:
            await asyncio.sleep(POLL_SECONDS)
            watched = list(self._followers)
            for start in range(0, len(watched), PAGE):
                try:
                    states = await self._records.states(watched[start : start + PAGE])
                except FileProcessingError as error:
                    log.warning("tasks cannot be watched now", code=error.code)
                    break
                for task_id, state in states.items():
                    for follower in self._followers.get(task_id, ()):
                        follower.offer(state)
