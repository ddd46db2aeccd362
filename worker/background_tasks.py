"""The Python API of background tasks: submit, read the state, wait, cancel. State is in Supabase, jobs in RabbitMQ.

`task_manager` takes its settings from the environment on first use. Each call opens its own connections and closes
them, so that the manager is bound to no event loop; within `async with task_manager:` connections stay open.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Self
from uuid import UUID

import httpx

from handlers.database.task_queries import parse_workers
from handlers.errors import DatabaseUnavailableError
from schemas.jobs import DEFAULT_BINDING
from schemas.tasks import TaskState
from worker.observability.logs import configure_as_library
from worker.resources import Resources
from worker.settings import Settings
from worker.tasks.service import CancelOutcome, TaskService, read_submission

MIN_POLL_SECONDS: Final = 0.5
MAX_POLL_SECONDS: Final = 2.0
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
    """There is no task with this id."""


class BackgroundTaskManager:
    """Submits files to the workers. Without `settings`, it reads them from the environment.

    Usable from one event loop at a time. Every method raises SettingsError if SUPABASE_URL is not set, and
    DatabaseUnavailableError if Supabase does not answer.
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
        """Close the connections that `async with` opened. The manager can be used again."""
        self._kept_service = None
        await self._stack.aclose()

    @property
    def settings(self) -> Settings:
        """The settings; read from the environment on first use. Raises SettingsError."""
        if self._settings is None:
            self._settings = Settings.load()
        return self._settings

    async def queue_file_processing(
        self,
        urls: Sequence[str],
        user_id: UUID | str | None,
        generation_id: UUID | str,
        task_options: Mapping[str, Any] | None = None,
        binding: str = DEFAULT_BINDING,
    ) -> str:
        """Submit files; return the task's id. The same files, generation, binding and image options give the same id.

        Args:
            urls: URLs of the files; at most MAX_BATCH_SIZE.
            user_id: the user who owns the files; None for no owner.
            generation_id: the generation that the files belong to.
            task_options: `max_concurrent` (files at once), `quality` (1 to 100) and `format` (auto, keep, jpeg, webp,
                avif) of images, `variants` (smaller versions of each picture), `priority` (interactive or bulk) or
                `queue` (file_processing, file_processing.bulk, optimization), not both.
            binding: the binding of the generation's table.

        Raises:
            ValueError: an argument is invalid; the message names it.
            BrokerUnavailableError: nothing was queued.
        """
        submission = read_submission(
            urls=list(urls),
            user_id=None if user_id is None else str(user_id),
            generation_id=str(generation_id),
            binding=binding,
            task_options=dict(task_options or {}),
        )
        async with self._service() as service:
            return str((await service.submit(submission)).task_id)

    async def get_task_status(self, task_id: UUID | str) -> dict[str, Any]:
        """Return `status`, `ready`, `successful`, `result`, `error`, `progress` and more.

        `status` is `unknown` if there is no task with this id.
        """
        async with self._service(broker=False) as service:
            parsed_id = _parse_id(task_id)
            return _to_dict(None if parsed_id is None else await service.state(parsed_id))

    async def cancel_task(self, task_id: UUID | str) -> bool:
        """Cancel a waiting or running task; return whether it is cancelled.

        A task that has ended is not changed. For an unknown id the answer is False; if the job of a webhook with this
        id is still queued, it will not run.
        """
        return await self.cancel(task_id) is CancelOutcome.CANCELLED

    async def cancel(self, task_id: UUID | str) -> CancelOutcome:
        """Do the same as `cancel_task`; return also why a task is not cancelled."""
        async with self._service() as service:
            parsed_id = _parse_id(task_id)
            return CancelOutcome.UNKNOWN if parsed_id is None else await service.cancel(parsed_id)

    async def wait(self, task_id: UUID | str, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109 - its users expect the name
        """Wait until the task has ended, and return its status.

        Raises:
            TimeoutError: the task has not ended within `timeout` seconds. It continues.
            UnknownTaskError: there is no task with this id.
        """
        async with asyncio.timeout(timeout):
            return [status async for status in self.watch(task_id)][-1]

    async def watch(self, task_id: UUID | str) -> AsyncIterator[dict[str, Any]]:
        """Yield the task's status now and after each change, until the task has ended.

        Raises:
            UnknownTaskError: there is no task with this id.
        """
        parsed_id, previous, pause = _parse_id(task_id), None, MIN_POLL_SECONDS
        async with self._service(broker=False) as service:
            while True:
                state = None if parsed_id is None else await service.state(parsed_id)
                if state is None:
                    raise UnknownTaskError(f"there is no task {task_id}")
                if state != previous:
                    previous, pause = state, MIN_POLL_SECONDS
                    yield _to_dict(state)
                if state.ready:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 1.2, MAX_POLL_SECONDS)

    def get_worker_stats(self) -> dict[str, Any]:
        """Return `workers` (the latest statistics) and `active_tasks`, both by worker name. Blocks for one request."""
        url, key = self.settings.for_tasks().project
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        try:
            response = httpx.post(
                f"{url}/rest/v1/rpc/outlast_worker_stats", json={}, headers=headers, timeout=STATS_SECONDS
            )
            response.raise_for_status()
            return parse_workers(response.json()).model_dump(mode="json")
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
        async with Resources(settings) as resources:
            supabase = await resources.supabase()
            yield TaskService(settings, supabase, await resources.broker("api") if broker else None)


def _parse_id(task_id: UUID | str) -> UUID | None:
    """Return the task's id, or None if it is not a UUID and so cannot be a task's id."""
    try:
        return task_id if isinstance(task_id, UUID) else UUID(task_id)
    except ValueError:
        return None


def _to_dict(state: TaskState | None) -> dict[str, Any]:
    return dict(UNKNOWN) if state is None else state.model_dump(mode="json")


task_manager: Final = BackgroundTaskManager()
"""The manager for general use; it takes its settings from the environment on first use."""
