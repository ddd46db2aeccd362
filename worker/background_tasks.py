"""Background tasks from Python: submit, look, wait, cancel. State lives in Supabase, the queue is RabbitMQ's.

`task_manager` configures itself from the environment on first use. A call opens what it needs and closes it again, so
that nothing is tied to an event loop; within `async with task_manager:` connections stay open.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Self
from uuid import UUID

import httpx

from handlers.database.client import Supabase
from handlers.database.task_queries import read_workers
from handlers.errors import DatabaseUnavailableError
from schemas.tasks import TaskState
from worker.broker.connection import Broker
from worker.observability.logs import configure_as_library
from worker.observability.metrics import Metrics
from worker.settings import Settings
from worker.tasks.service import TaskService, read_submission

POLL_SECONDS: Final = 0.5
SLOWEST_POLL_SECONDS: Final = 2.0
STATS_SECONDS: Final = 10.0
UNKNOWN: Final = {
    "status": "unknown",
    "ready": False,
    "successful": False,
    "result": None,
    "error": None,
    "progress": None,
}


class UnknownTaskError(LookupError):
    """No task of that name is on record."""


class BackgroundTaskManager:
    """Queues files for the workers. Settings come from the environment unless given.

    Usable from one event loop at a time. Every method raises SettingsError when SUPABASE_URL is not set, and
    DatabaseUnavailableError when Supabase gives no answer.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._kept_service: TaskService | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._kept_service = await self._stack.enter_async_context(self._new_service())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what `async with` keeps open; the manager may be used again."""
        self._kept_service = None
        await self._stack.aclose()

    @property
    def settings(self) -> Settings:
        """The settings in force; read from the environment on first use. Raises SettingsError."""
        if self._settings is None:
            self._settings = Settings.load()
        return self._settings

    async def queue_file_processing(
        self,
        urls: Sequence[str],
        user_id: UUID | str | None,
        generation_id: UUID | str,
        task_options: Mapping[str, Any] | None = None,
    ) -> str:
        """Queue files and return the task's id. The same files for the same generation are the same task.

        Args:
            urls: where the files are; at most MAX_BATCH_SIZE.
            user_id: whose they are.
            generation_id: what they belong to.
            task_options: `max_concurrent` (files at once), `quality` (1 to 100) and `format` (auto, keep, jpeg, webp,
                avif) of images, `priority` (interactive or bulk) or `queue` (file_processing, file_processing.bulk,
                optimization).

        Raises:
            ValueError: what is wrong with the arguments, each by name.
            BrokerUnavailableError: nothing was queued.
        """
        submission = read_submission(
            urls=list(urls),
            user_id=None if user_id is None else str(user_id),
            generation_id=str(generation_id),
            task_options=dict(task_options or {}),
        )
        async with self._service() as service:
            return str((await service.submit(submission)).task_id)

    async def get_task_status(self, task_id: UUID | str) -> dict[str, Any]:
        """Return `status`, `ready`, `successful`, `result`, `error`, `progress` and more; status `unknown` if it is."""
        async with self._service(broker=False) as service:
            known = _parsed(task_id)
            return _as_dict(None if known is None else await service.state(known))

    async def cancel_task(self, task_id: UUID | str) -> bool:
        """Cancel a task that waits or runs; return whether it is cancelled: one that has ended stays as it is."""
        async with self._service() as service:
            known = _parsed(task_id)
            return known is not None and await service.cancel(known)

    async def wait(self, task_id: UUID | str, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109 - its users expect the name
        """Return the task's status once it has ended.

        Raises:
            TimeoutError: it has not, `timeout` seconds from now; it goes on.
            UnknownTaskError: there is no such task.
        """
        async with asyncio.timeout(timeout):
            return [status async for status in self.watch(task_id)][-1]

    async def watch(self, task_id: UUID | str) -> AsyncIterator[dict[str, Any]]:
        """Yield the task's status now and whenever it changes, until it has ended.

        Raises:
            UnknownTaskError: there is no such task.
        """
        known, seen, pause = _parsed(task_id), None, POLL_SECONDS
        async with self._service(broker=False) as service:
            while True:
                state = None if known is None else await service.state(known)
                if state is None:
                    raise UnknownTaskError(f"no task {task_id} is on record")
                if state != seen:
                    seen, pause = state, POLL_SECONDS
                    yield _as_dict(state)
                if state.ready:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 1.2, SLOWEST_POLL_SECONDS)

    def get_worker_stats(self) -> dict[str, Any]:
        """Return `workers`, by name what each told last, and `active_tasks`, by name what each runs. Blocks shortly."""
        url, key = self.settings.for_tasks().project
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        try:
            answer = httpx.post(
                f"{url}/rest/v1/rpc/outlast_worker_stats", json={}, headers=headers, timeout=STATS_SECONDS
            )
            answer.raise_for_status()
            return read_workers(answer.json()).model_dump(mode="json")
        except (httpx.HTTPError, ValueError) as error:
            raise DatabaseUnavailableError(f"outlast_worker_stats: {type(error).__name__} at SUPABASE_URL") from error

    @contextlib.asynccontextmanager
    async def _service(self, *, broker: bool = True) -> AsyncIterator[TaskService]:
        if self._kept_service is not None:
            yield self._kept_service
            return
        async with self._new_service(broker=broker) as service:
            yield service

    @contextlib.asynccontextmanager
    async def _new_service(self, *, broker: bool = True) -> AsyncIterator[TaskService]:
        configure_as_library()
        settings = self.settings.for_tasks()
        async with contextlib.AsyncExitStack() as stack:
            supabase = await stack.enter_async_context(Supabase(settings))
            line = await stack.enter_async_context(Broker(settings, Metrics("api"), "outlast api")) if broker else None
            yield TaskService(settings, supabase, line)


def _parsed(task_id: UUID | str) -> UUID | None:
    """Return the id; None for what is no UUID, and so no task's."""
    try:
        return task_id if isinstance(task_id, UUID) else UUID(task_id)
    except ValueError:
        return None


def _as_dict(state: TaskState | None) -> dict[str, Any]:
    return dict(UNKNOWN) if state is None else state.model_dump(mode="json")


task_manager: Final = BackgroundTaskManager()
"""Configured from the environment on first use."""
