"""Tasks: found, looked into, cancelled, submitted again."""

from typing import Final
from uuid import UUID

from aiohttp import web

from handlers.database.console_queries import ConsoleQueries, Row
from schemas.dead_letters import InvalidFilterError
from schemas.jobs import Queue
from schemas.submissions import Submission
from schemas.tasks import TaskStatus
from worker.broker.connection import Broker
from worker.console.auth import SESSION, see
from worker.console.operations import Operations
from worker.console.sse import stream
from worker.console.templating import link, live_part, moment, page, whole
from worker.settings import Settings
from worker.tasks.service import InvalidSubmissionError, TaskService, job_of

PAGE: Final = 50
FILES: Final = 24
FIELDS: Final = ("status", "queue", "code", "since", "until", "q")
WAITING: Final = {"queued", "running", "retrying"}


class TaskPages:
    """The pages of tasks."""

    def __init__(self, settings: Settings, records: ConsoleQueries, broker: Broker, operations: Operations) -> None:
        self._settings, self._records, self._broker, self._operations = settings, records, broker, operations

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get("/tasks", self._list)
        app.router.add_get("/tasks/{task_id}", self._show)
        app.router.add_get("/tasks/{task_id}/live", self._live)
        app.router.add_post("/tasks/{task_id}/cancel", self._cancel)
        app.router.add_post("/tasks/{task_id}/resubmit", self._resubmit)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        chosen = {name: value for name in FIELDS if (value := request.query.get(name, "").strip())}
        for name in ("since", "until"):
            if name in chosen and moment(chosen[name]) is None:
                raise InvalidFilterError(f"{name}: give a date or a time, e.g. 2026-11-01 or 2026-11-01T12:00Z")
        before = _place(request.query.get("before", ""))
        clean = {name: value.replace("\x00", "") for name, value in chosen.items()}
        rows = await self._records.tasks(clean, before, PAGE + 1)
        shown, older = rows[:PAGE], None
        if len(rows) > PAGE:
            older = link("/console/tasks", **chosen, before=f"{shown[-1]['created_at']}~{shown[-1]['task_id']}")
        choices = {"statuses": [one.value for one in TaskStatus], "queues": [one.value for one in Queue]}
        return page(request, "tasks.html", title="Tasks", rows=shown, older=older, chosen=chosen, **choices)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        context = await self._context(request, await self._found(request))
        return page(request, "task.html", title="Task", **context, done=request.query.get("done"))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        async def render() -> tuple[str, bool]:
            context = await self._context(request, await self._found(request))
            return live_part(request, "task_live.html", context), context["task"]["status"] not in WAITING

        return await stream(request, render)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        found, by = await self._found(request), request[SESSION].who
        task_id = UUID(found["task"]["task_id"])
        cancelled = await TaskService(self._settings, self._records.supabase, self._broker).cancel(task_id)
        detail = "" if cancelled else "it had ended already"
        await self._operations.note("cancel", by, {"task": str(task_id)}, int(cancelled), detail)
        return see(link(f"/console/tasks/{task_id}", done="cancelled" if cancelled else "ended before"))

    async def _resubmit(self, request: web.Request) -> web.StreamResponse:
        found, by = await self._found(request), request[SESSION].who
        task_id = found["task"]["task_id"]
        submission = self._again(found)
        if submission is None:
            done = "not submitted: its source addresses are not on record whole; replay its dead letter, or submit anew"
        else:
            desk = TaskService(self._settings, self._records.supabase, self._broker)
            await desk.submit(submission)
            done = "submitted again"
        await self._operations.note("resubmit", by, {"task": task_id}, int(submission is not None), done)
        return see(link(f"/console/tasks/{task_id}", done=done))

    def _again(self, found: Row) -> Submission | None:
        """Return what asks for this very task; None when its addresses are not known as they were."""
        task = found["task"]
        places = {file["source_key"]: file["source_url"] for file in found["files"]}
        places |= {one.get("source_key"): one.get("url") for one in task["failed"]}
        try:
            submission = Submission(
                urls=[places.get(key) or "" for key in task["source_keys"]],
                user_id=task["user_id"],
                generation_id=task["generation_id"] or "",
                task_options={"queue": task["queue"]},
            )
            job = job_of(submission, self._settings)
        except (ValueError, InvalidSubmissionError):
            return None
        return submission if str(job.task_id) == task["task_id"] else None

    async def _found(self, request: web.Request) -> Row:
        try:
            task_id = UUID(request.match_info["task_id"])
        except ValueError:
            raise web.HTTPNotFound(text="That is no task's id.") from None
        found = await self._records.task(task_id)
        if found is None:
            raise web.HTTPNotFound(text="No such task is on record.")
        return found

    async def _context(self, request: web.Request, found: Row) -> Row:
        start = whole(request.query.get("from", "")) // FILES * FILES
        files, status = found["files"][start : start + FILES], found["task"]["status"]
        return {
            **found,
            "files": files,
            "start": start,
            "rest": len(found["files"]) - start - len(files),
            "links": await self._records.links(files) if files else {},
            "waits": status in WAITING,
            "again": status in {"failed", "partial", "cancelled"} and self._again(found) is not None,
        }


def _place(text: str) -> tuple[str, str] | None:
    at, _, name = text.replace(" ", "+").partition("~")
    try:
        return (at, str(UUID(name))) if moment(at) else None
    except ValueError:
        return None
